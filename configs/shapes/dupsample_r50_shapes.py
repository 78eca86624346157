_base_ = [
    '../_base_/models/dupsample_r50.py',
    '../_base_/datasets/shapes_semantic.py',
    '../_base_/schedules/shapes_semantic.py',
]

# A small model that trains from scratch in a minute: a narrow ResNet-18, one branch of dilated convolutions, stride 8.
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(
        depth=18,
        base_channels=32,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        norm_cfg=dict(type='BN', requires_grad=True),
        init_cfg=None,
    ),
    decode_head=dict(
        in_channels=256,
        channels=64,
        dilations=(1, 4),
        c1_in_channels=32,
        c1_channels=16,
        scale_factor=8,
        num_classes=5,
        norm_cfg=dict(type='BN', requires_grad=True),
    ),
)
