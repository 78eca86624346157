_base_ = '../mmseg_runtime.py'

train_cfg = dict(type='IterBasedTrainLoop', max_iters=38400, val_interval=1600)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

# As in mmcv 1.x, the warm-up multiplies the cosine schedule, and both start at iteration 0. Learning rates and lengths are from a public
# re-run of the paper's depth experiment (https://github.com/yisi-xj/FRFU).
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=12800),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=0, end=38400, T_max=38400),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(custom_keys={'relative_position_bias_table': dict(decay_mult=0.0), 'norm': dict(decay_mult=0.0)}),
    clip_grad=dict(max_norm=35.0, norm_type=2),
)
default_hooks = dict(checkpoint=dict(interval=1600, save_best='abs_rel', rule='less'))
