# RT-DETR-R18 (Zhao et al., CVPR 2024), with its encoder as the neck and mmdet's DINO as the rest. It differs from RT-DETR as DINO does:
# - the contents of the queries are learned, instead of being the encoder's features at the selected positions;
# - boxes are encoded by sines before they become the positions of the queries;
# - the maps go from the neck to the decoder without another 1x1 projection.
# It also differs from both: the backbone is a plain ResNet-18 on normalised images, because its weights have a public URL, where RT-DETR
# uses ResNet-18-vd on images that are not normalised; and the classification loss is the quality focal loss, whose targets are the IoUs as
# in RT-DETR's varifocal loss.
model = dict(
    type='mmdysample.RTDETR',
    num_queries=300,
    num_feature_levels=3,
    with_box_refine=True,
    as_two_stage=True,
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        batch_augments=[dict(type='BatchSyncRandomResize', random_size_range=(480, 800), size_divisor=32, interval=1)],
    ),
    backbone=dict(
        type='ResNet',
        depth=18,
        num_stages=4,
        out_indices=(1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
        style='pytorch',
        # the URL of torchvision's ResNet-18, so that torchvision need not be installed
        init_cfg=dict(type='Pretrained', checkpoint='https://download.pytorch.org/models/resnet18-f37072fd.pth'),
    ),
    neck=dict(
        type='mmdysample.RTDETRFusion',
        in_channels=[128, 256, 512],
        out_channels=256,
        expansion=0.5,
        num_blocks=3,
        encoder_layers=1,
        num_heads=8,
        feedforward_channels=1024,
        upsample_cfg=dict(type='nearest'),
    ),
    decoder=dict(
        num_layers=3,
        return_intermediate=True,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=256, num_heads=8, dropout=0.0),
            cross_attn_cfg=dict(embed_dims=256, num_levels=3, dropout=0.0),
            ffn_cfg=dict(embed_dims=256, feedforward_channels=1024, ffn_drop=0.0),
        ),
        post_norm_cfg=None,
    ),
    bbox_head=dict(
        type='DINOHead',
        num_classes=80,
        sync_cls_avg_factor=True,
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=5.0),
        loss_iou=dict(type='GIoULoss', loss_weight=2.0),
    ),
    dn_cfg=dict(label_noise_scale=0.5, box_noise_scale=1.0, group_cfg=dict(dynamic=True, num_groups=None, num_dn_queries=100)),
    train_cfg=dict(
        assigner=dict(
            type='HungarianAssigner',
            match_costs=[
                dict(type='FocalLossCost', weight=2.0),
                dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                dict(type='IoUCost', iou_mode='giou', weight=2.0),
            ],
        )
    ),
    test_cfg=dict(max_per_img=300),
)
