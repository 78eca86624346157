_base_ = [
    '../_base_/models/panoptic_fpn_r50.py',
    '../_base_/datasets/shapes_panoptic.py',
    '../_base_/schedules/shapes_detection.py',
]

# A small model that trains from scratch in about a minute: a narrow ResNet-18 without frozen stages, narrow levels, few proposals.
model = dict(
    backbone=dict(depth=18, base_channels=32, frozen_stages=-1, norm_eval=False, zero_init_residual=False, init_cfg=None),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64, upsample_cfg=dict(type='DySample')),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, roi_layer=dict(sampling_ratio=2), finest_scale=28),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=3),
        mask_roi_extractor=dict(out_channels=64, roi_layer=dict(sampling_ratio=2), finest_scale=28),
        mask_head=dict(num_convs=1, in_channels=64, conv_out_channels=64, num_classes=3),
    ),
    semantic_head=dict(num_things_classes=3, num_stuff_classes=2, in_channels=64, inner_channels=32, norm_cfg=dict(num_groups=8)),
    panoptic_fusion_head=dict(num_things_classes=3, num_stuff_classes=2),
    train_cfg=dict(rpn_proposal=dict(nms_pre=300, max_per_img=100), rcnn=dict(sampler=dict(num=32))),
    test_cfg=dict(
        rpn=dict(nms_pre=300, max_per_img=100),
        rcnn=dict(score_thr=0.5),
        panoptic=dict(stuff_area_limit=64),
    ),
)
