_base_ = [
    '../_base_/models/depth_swin_t.py',
    '../_base_/datasets/shapes_depth.py',
    '../_base_/schedules/shapes_depth.py',
]

# A small model that trains from scratch in a minute or two. It has a narrow ResNet-18, because a Swin learns almost nothing from so few
# scenes, and normalisation in the decoder.
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(
        _delete_=True,
        type='ResNetV1c',
        depth=18,
        base_channels=32,
        norm_cfg=dict(type='BN', requires_grad=True),
        init_cfg=None,
    ),
    decode_head=dict(
        in_channels=[32, 64, 128, 256],
        channels=16,
        max_depth=20.0,
        norm_cfg=dict(type='BN', requires_grad=True),
        upsample_cfg=dict(type='DySample'),
    ),
    test_cfg=dict(crop_size=(128, 128), stride=(128, 128)),
)
