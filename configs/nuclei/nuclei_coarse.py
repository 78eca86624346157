# Semantic segmentation of nuclei where upsampling decides: the head reads strides 16 and 32 of a pretrained MobileNetV2, and every x2 step
# up to stride 2 is done by the upsampler. `python tools/pretrained.py mobilenet_v2` writes the weights.
_base_ = ['../_base_/models/segmentor.py', '../_base_/datasets/nuclei_semantic.py', '../_base_/schedules/nuclei_semantic.py']

model = dict(
    data_preprocessor=dict(size=(192, 192)),
    backbone=dict(
        type='MobileNetV2',
        out_indices=(0, 1, 2, 4, 6),  # strides 2, 4, 8, 16 and 32
        norm_cfg=dict(type='BN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='data/pretrained/mobilenet_v2.pth'),
    ),
    decode_head=dict(
        type='mmdysample.CoarseHead',
        in_channels=[16, 24, 32, 96, 320],
        in_index=[0, 1, 2, 3, 4],
        channels=64,
        num_classes=3,
        norm_cfg=dict(type='BN', requires_grad=True),
        align_corners=False,
        dropout_ratio=0.0,
        upsample_cfg=dict(type='DySample'),
        # Four of a hundred pixels are border, which bilinear never predicts with a weight of 1. The weight was chosen for bilinear.
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, class_weight=[1.0, 1.0, 3.0]),
    ),
)
