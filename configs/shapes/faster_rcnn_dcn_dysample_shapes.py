_base_ = './faster_rcnn_dysample_shapes.py'

# A ResNet-50, because mmdet supports deformable convolutions only in bottleneck blocks. Its stages have as many output channels as the
# ResNet-18 of the base config. With zero_init_residual its blocks start as identities, which helps so deep a network to learn from scratch.
model = dict(
    backbone=dict(
        depth=50,
        base_channels=8,
        zero_init_residual=True,
        dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, True, True, True),
    )
)

# Offsets have a tenth of the learning rate, as in Deformable DETR.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(conv_offset=dict(lr_mult=0.1))))
