_base_ = [
    '../_base_/models/maskformer_swin_b.py',
    '../_base_/datasets/shapes_semantic.py',
    '../_base_/schedules/shapes_semantic.py',
]

# A small model that trains from scratch in two minutes: a narrow Swin with one pair of blocks per stage, few queries. Queries are matched
# more by class than by mask, so that each soon specialises in a class. Matching mostly by mask, as in the full model, takes longer.
attention = dict(embed_dims=64, num_heads=4, attn_drop=0.0, proj_drop=0.0)
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(
        pretrain_img_size=128,
        embed_dims=32,
        depths=[2, 2, 2, 2],
        num_heads=[1, 2, 4, 8],
        window_size=4,
        drop_path_rate=0.0,
        init_cfg=None,
    ),
    decode_head=dict(
        in_channels=[32, 64, 128, 256],
        feat_channels=64,
        out_channels=64,
        num_classes=5,
        num_queries=8,
        pixel_decoder=dict(norm_cfg=dict(num_groups=8), upsample_cfg=dict(type='DySample')),
        positional_encoding=dict(num_feats=32),
        transformer_decoder=dict(
            num_layers=2,
            layer_cfg=dict(
                self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=dict(embed_dims=64, feedforward_channels=256, ffn_drop=0.0)
            ),
        ),
        loss_cls=dict(class_weight=[1.0] * 5 + [0.1]),
        train_cfg=dict(
            assigner=dict(
                match_costs=[
                    dict(type='mmdet.ClassificationCost', weight=10.0),
                    dict(type='mmdet.FocalLossCost', weight=20.0, binary_input=True),
                    dict(type='mmdet.DiceCost', weight=1.0, pred_act=True, eps=1.0),
                ],
            ),
        ),
    ),
)
del attention
