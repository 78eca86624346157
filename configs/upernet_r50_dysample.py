_base_ = [
    '_base_/models/upernet_r50.py',
    '_base_/datasets/ade20k.py',
    '_base_/schedules/sgd_80k.py',
    '_base_/mmseg_runtime.py',
]

model = dict(decode_head=dict(upsample_cfg=dict(type='DySample')))
default_hooks = dict(checkpoint=dict(interval=8000))
