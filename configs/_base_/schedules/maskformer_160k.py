# As in mmseg's configs of MaskFormer with Swin: one learning rate for backbone and head, and gradients clipped to a small norm. One
# difference: mmseg applies no weight decay to the norm layers of the backbone; this config also exempts those of the head.
_base_ = './adamw_160k.py'

optim_wrapper = dict(
    clip_grad=dict(max_norm=0.01, norm_type=2),
    paramwise_cfg=dict(
        _delete_=True,
        norm_decay_mult=0.0,
        custom_keys={'relative_position_bias_table': dict(decay_mult=0.0), 'query_embed': dict(decay_mult=0.0)},
    ),
)
