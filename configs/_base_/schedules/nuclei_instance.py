# The schedule of the scenes, shortened to three epochs.
_base_ = './shapes_detection.py'

train_cfg = dict(max_epochs=3, val_interval=3)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, begin=0, end=3, T_max=3, convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=1e-3))
