_base_ = [
    '_base_/models/rtdetr_r18.py',
    '_base_/datasets/coco_detection_640.py',
    '_base_/schedules/adamw_72e.py',
    '_base_/mmdet_runtime.py',
]

model = dict(neck=dict(upsample_cfg=dict(type='DySample')))
