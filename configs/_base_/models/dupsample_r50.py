# DeepLabv3+ that predicts codes at stride 16, each decoded to 16x16 labels: Tian et al., CVPR 2019.
_base_ = './segmentor.py'

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        dilations=(1, 1, 1, 2),
        strides=(1, 2, 2, 1),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        style='pytorch',
        contract_dilation=True,
        # the URL of torchvision's ResNet-50, so that torchvision need not be installed
        init_cfg=dict(type='Pretrained', checkpoint='https://download.pytorch.org/models/resnet50-0676ba61.pth'),
    ),
    decode_head=dict(
        type='mmdysample.DUpsampleHead',
        in_channels=2048,
        in_index=3,
        channels=512,
        dilations=(1, 6, 12, 18),
        c1_in_channels=256,
        c1_channels=48,
        scale_factor=16,
        code_channels=64,
        matrix=None,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
)
