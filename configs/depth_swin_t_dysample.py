# The decoder of the paper's DepthFormer-SwinT, directly on Swin's maps, trained as in a public re-run. DepthFormer's convolutional branch,
# whose map at stride 2 joins the last step there, and its HAHI neck are a later step.
_base_ = [
    '_base_/models/depth_swin_t.py',
    '_base_/datasets/nyu.py',
    '_base_/schedules/adamw_38k.py',
]

model = dict(decode_head=dict(upsample_cfg=dict(type='DySample')))
