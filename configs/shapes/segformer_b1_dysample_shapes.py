_base_ = [
    '../_base_/models/segformer_b1.py',
    '../_base_/datasets/shapes_semantic.py',
    '../_base_/schedules/shapes_semantic.py',
]

# A small model that trains from scratch in a minute: one narrow layer per stage.
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(embed_dims=16, num_layers=[1, 1, 1, 1], num_heads=[1, 2, 4, 8], drop_path_rate=0.0, init_cfg=None),
    decode_head=dict(in_channels=[16, 32, 64, 128], channels=64, num_classes=5, upsample_cfg=dict(type='DySample')),
)
