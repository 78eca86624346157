# The schedule of the scenes, shortened to two epochs.
_base_ = './shapes_detection.py'

train_cfg = dict(max_epochs=2, val_interval=2)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, begin=0, end=2, T_max=2, convert_to_iter_based=True),
]
