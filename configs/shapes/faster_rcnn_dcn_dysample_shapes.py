_base_ = './faster_rcnn_dysample_shapes.py'

# mmdet has deformable convolutions in bottlenecks alone: a ResNet-50, as narrow as the other twin's ResNet-18 at the outputs. So deep, it
# learns from scratch where its blocks start as identities.
model = dict(
    backbone=dict(
        depth=50,
        base_channels=8,
        zero_init_residual=True,
        dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, True, True, True),
    )
)

# Offsets learn at a tenth of the rate, as those of Deformable DETR do.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(conv_offset=dict(lr_mult=0.1))))
