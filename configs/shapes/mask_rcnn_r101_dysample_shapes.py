_base_ = './mask_rcnn_dysample_shapes.py'

# As ResNet-101 is deeper than ResNet-50, this backbone is deeper than the ResNet-18 of the base config.
model = dict(backbone=dict(depth=34))
