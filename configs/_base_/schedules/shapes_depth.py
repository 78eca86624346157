_base_ = './shapes_semantic.py'

default_hooks = dict(checkpoint=dict(save_best='abs_rel', rule='less'))
