_base_ = './shapes_semantic.py'

optim_wrapper = dict(optimizer=dict(lr=2e-3))
default_hooks = dict(checkpoint=dict(save_best='abs_rel', rule='less'))
