# 12 epochs instead of 8, for detectors that assign boxes by their own predictions and therefore start learning later.
_base_ = './shapes_detection.py'

train_cfg = dict(max_epochs=12, val_interval=3)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, begin=0, end=12, T_max=12, convert_to_iter_based=True),
]
