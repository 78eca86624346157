# Modelled on RT-DETR's schedule for its small models. The numbers are quoted by its users and were not checked against its source.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=72, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

# The learning rate is constant after the warm-up. The evaluated weights are an exponential moving average.
param_scheduler = [dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=2000)]
custom_hooks = [dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.0001, gamma=2000, update_buffers=True, priority=49)]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1, norm_type=2),
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)}, norm_decay_mult=0.0, bias_decay_mult=0.0),
)

# The learning rate of 1e-4 is for 16 images per step; it is scaled for any other number.
auto_scale_lr = dict(enable=True, base_batch_size=16)
