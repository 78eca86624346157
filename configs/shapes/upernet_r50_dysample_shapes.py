_base_ = [
    '../_base_/models/upernet_r50.py',
    '../_base_/datasets/shapes_semantic.py',
    '../_base_/schedules/shapes_semantic.py',
]

# A small model that trains from scratch in a minute: a narrow ResNet-18.
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(depth=18, stem_channels=32, base_channels=32, norm_cfg=dict(type='BN', requires_grad=True), init_cfg=None),
    decode_head=dict(
        in_channels=[32, 64, 128, 256],
        channels=64,
        num_classes=5,
        norm_cfg=dict(type='BN', requires_grad=True),
        upsample_cfg=dict(type='DySample'),
    ),
    auxiliary_head=dict(in_channels=128, channels=32, num_classes=5, norm_cfg=dict(type='BN', requires_grad=True)),
)
