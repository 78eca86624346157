_base_ = [
    '_base_/models/panoptic_fpn_r50.py',
    '_base_/datasets/coco_panoptic.py',
    '_base_/schedules/sgd_1x.py',
    '_base_/mmdet_runtime.py',
]

# The authors' COCO runs started from Xavier offsets, because their neck initialises every convolution below it. To repeat that, write
# dict(type='DySample', init_cfg=dict(type='Xavier', layer='Conv2d', distribution='uniform')).
model = dict(neck=dict(upsample_cfg=dict(type='DySample')))
