_base_ = './panoptic_fpn_dysample.py'

model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(type='Pretrained', checkpoint='https://download.pytorch.org/models/resnet101-63fe2227.pth'),
    )
)
