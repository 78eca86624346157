# The schedule of the scenes, evaluated once at the end, with a checkpoint every minute on one core.
# The learning rate was chosen for bilinear.
_base_ = './shapes_semantic.py'

train_cfg = dict(val_interval=600)
optim_wrapper = dict(optimizer=dict(lr=3e-3))
default_hooks = dict(checkpoint=dict(interval=100))
