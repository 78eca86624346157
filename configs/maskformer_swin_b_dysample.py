_base_ = [
    '_base_/models/maskformer_swin_b.py',
    '_base_/datasets/ade20k_640.py',
    '_base_/schedules/maskformer_160k.py',
    '_base_/mmseg_runtime.py',
]

model = dict(decode_head=dict(pixel_decoder=dict(upsample_cfg=dict(type='DySample'))))
