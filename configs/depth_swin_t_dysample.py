# The decoder of the paper's DepthFormer-SwinT, applied directly to Swin's maps and trained as in a public re-run. Two parts of DepthFormer
# are missing: its HAHI neck, and its convolutional branch, whose map at stride 2 is concatenated in the last step.
_base_ = [
    '_base_/models/depth_swin_t.py',
    '_base_/datasets/nyu.py',
    '_base_/schedules/adamw_38k.py',
]

model = dict(decode_head=dict(upsample_cfg=dict(type='DySample')))
