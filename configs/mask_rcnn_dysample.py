_base_ = [
    '_base_/models/mask_rcnn_r50.py',
    '_base_/datasets/coco_instance.py',
    '_base_/schedules/sgd_1x.py',
    '_base_/mmdet_runtime.py',
]

# In the authors' COCO runs the offsets had Xavier initialisation, because their neck initialises all its convolutions. To repeat that, use
# dict(type='DySample', init_cfg=dict(type='Xavier', layer='Conv2d', distribution='uniform')).
model = dict(neck=dict(upsample_cfg=dict(type='DySample')))
