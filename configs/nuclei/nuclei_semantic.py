# Semantic segmentation of nuclei with SegFormer's head on strides 4 to 32 of a pretrained MobileNetV2.
# `python tools/pretrained.py mobilenet_v2` writes the weights.
_base_ = './nuclei_coarse.py'

model = dict(
    backbone=dict(out_indices=(1, 2, 4, 6)),  # strides 4, 8, 16 and 32
    decode_head=dict(type='mmdysample.SegformerHead', in_channels=[24, 32, 96, 320], in_index=[0, 1, 2, 3]),
)
