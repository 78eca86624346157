_base_ = [
    '../_base_/models/yolox_tiny.py',
    '../_base_/datasets/shapes_detection.py',
    '../_base_/schedules/shapes_detection_12e.py',
]

# A narrow model that trains from scratch in a minute or two, with every image at its own size.
model = dict(
    data_preprocessor=dict(batch_augments=None),
    backbone=dict(widen_factor=0.25),
    neck=dict(module=dict(in_channels=[64, 128, 256], out_channels=64), upsample_cfg=dict(type='DySample')),
    bbox_head=dict(num_classes=3, in_channels=64, feat_channels=64),
)
