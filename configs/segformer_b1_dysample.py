_base_ = [
    '_base_/models/segformer_b1.py',
    '_base_/datasets/ade20k.py',
    '_base_/schedules/adamw_160k.py',
    '_base_/mmseg_runtime.py',
]

model = dict(decode_head=dict(upsample_cfg=dict(type='DySample')))
