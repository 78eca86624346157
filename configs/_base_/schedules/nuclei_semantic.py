# That of the scenes, evaluated once at the end.
_base_ = './shapes_semantic.py'

train_cfg = dict(val_interval=600)
