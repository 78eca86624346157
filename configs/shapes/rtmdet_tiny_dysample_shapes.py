_base_ = [
    '../_base_/models/rtmdet_tiny.py',
    '../_base_/datasets/shapes_detection.py',
    '../_base_/schedules/shapes_detection.py',
]

# Small enough to learn from scratch in two minutes: narrow.
norm_cfg = dict(type='BN')
model = dict(
    backbone=dict(widen_factor=0.25, norm_cfg=norm_cfg, init_cfg=None),
    neck=dict(module=dict(in_channels=[64, 128, 256], out_channels=64, norm_cfg=norm_cfg), upsample_cfg=dict(type='DySample')),
    bbox_head=dict(num_classes=3, in_channels=64, feat_channels=64, norm_cfg=norm_cfg),
)
del norm_cfg

train_cfg = dict(max_epochs=16, val_interval=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, begin=0, end=16, T_max=16, convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=4e-3))
