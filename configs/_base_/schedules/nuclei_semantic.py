# About five minutes on one CPU core.
_base_ = '../mmseg_runtime.py'

train_cfg = dict(type='IterBasedTrainLoop', max_iters=600, val_interval=600)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=30, end=600, by_epoch=False),
]
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01), clip_grad=dict(max_norm=10.0, norm_type=2)
)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=200))
randomness = dict(seed=0)
