_base_ = [
    '_base_/models/rtmdet_tiny.py',
    '_base_/datasets/coco_rtmdet.py',
    '_base_/schedules/rtmdet_300e.py',
]

model = dict(neck=dict(upsample_cfg=dict(type='DySample')))
