# As mmseg trains MaskFormer on Swin: one rate for backbone and head, hard clipping. It exempts the norms of the backbone from decay,
# and this those of the head, too.
_base_ = './adamw_160k.py'

optim_wrapper = dict(
    clip_grad=dict(max_norm=0.01, norm_type=2),
    paramwise_cfg=dict(
        _delete_=True,
        norm_decay_mult=0.0,
        custom_keys={'relative_position_bias_table': dict(decay_mult=0.0), 'query_embed': dict(decay_mult=0.0)},
    ),
)
