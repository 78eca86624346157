_base_ = [
    '../_base_/models/rtmdet_tiny.py',
    '../_base_/datasets/shapes_detection.py',
    '../_base_/schedules/shapes_detection_12e.py',
]

# A narrow model that trains from scratch in a minute or two.
norm_cfg = dict(type='BN')
model = dict(
    data_preprocessor=dict(pad_size_divisor=32),  # its neck doubles the size of each level exactly
    backbone=dict(widen_factor=0.25, norm_cfg=norm_cfg, init_cfg=None),
    neck=dict(module=dict(in_channels=[64, 128, 256], out_channels=64, norm_cfg=norm_cfg), upsample_cfg=dict(type='DySample')),
    bbox_head=dict(num_classes=3, in_channels=64, feat_channels=64, norm_cfg=norm_cfg),
)
del norm_cfg

# Clip gradients: in the first steps they are ten times as large as later.
optim_wrapper = dict(clip_grad=dict(max_norm=1.0))
