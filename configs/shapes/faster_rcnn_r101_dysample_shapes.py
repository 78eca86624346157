_base_ = './faster_rcnn_dysample_shapes.py'

# What ResNet-101 is to ResNet-50: the same stages, deeper.
model = dict(backbone=dict(depth=34))
