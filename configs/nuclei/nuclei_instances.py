# Instance segmentation of nuclei by Mask R-CNN with a narrow FPN on a pretrained MobileNetV2.
# `python tools/pretrained.py mobilenet_v2` writes the weights.
_base_ = ['../_base_/models/mask_rcnn_r50.py', '../_base_/datasets/nuclei_instance.py', '../_base_/schedules/nuclei_instance.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        out_indices=(1, 2, 4, 6),  # strides 4, 8, 16 and 32
        norm_cfg=dict(type='BN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='data/pretrained/mobilenet_v2.pth'),
    ),
    neck=dict(in_channels=[24, 32, 96, 320], out_channels=64, upsample_cfg=dict(type='DySample')),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, roi_layer=dict(sampling_ratio=2), finest_scale=28),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=1),
        mask_roi_extractor=dict(out_channels=64, roi_layer=dict(sampling_ratio=2), finest_scale=28),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64, num_classes=1),
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=500, max_per_img=300), rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=300), rcnn=dict(max_per_img=300)),  # an image has up to 151 nuclei
)
