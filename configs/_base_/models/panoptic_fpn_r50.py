# Panoptic FPN in the DySample paper's table: mmdet's, whose FPN has three upsamplers. The semantic head keeps its bilinear interpolation.
_base_ = './mask_rcnn_r50.py'

model = dict(
    type='PanopticFPN',
    data_preprocessor=dict(pad_size_divisor=32, mask_pad_value=0, pad_seg=True, seg_pad_value=255),
    neck=dict(fuse_extra_levels=False),
    semantic_head=dict(
        type='PanopticFPNHead',
        num_things_classes=80,
        num_stuff_classes=53,
        in_channels=256,
        inner_channels=128,
        start_level=0,
        end_level=4,
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
        loss_seg=dict(type='CrossEntropyLoss', ignore_index=255, loss_weight=0.5),
    ),
    panoptic_fusion_head=dict(type='HeuristicFusionHead', num_things_classes=80, num_stuff_classes=53),
    test_cfg=dict(
        rcnn=dict(score_thr=0.6, nms=dict(class_agnostic=True)),
        panoptic=dict(mask_overlap=0.5, stuff_area_limit=4096),  # in pixels: smaller areas of stuff become void
    ),
)
