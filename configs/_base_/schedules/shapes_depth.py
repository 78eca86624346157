_base_ = './shapes_semantic.py'

train_cfg = dict(max_iters=400)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=30, end=400, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(save_best='abs_rel', rule='less'))
