_base_ = [
    '_base_/models/yolox_tiny.py',
    '_base_/datasets/coco_yolox.py',
    '_base_/schedules/yolox_300e.py',
]

model = dict(neck=dict(upsample_cfg=dict(type='DySample')))
