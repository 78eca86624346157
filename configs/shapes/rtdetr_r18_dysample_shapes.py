_base_ = [
    '../_base_/models/rtdetr_r18.py',
    '../_base_/datasets/shapes_detection.py',
    '../_base_/schedules/shapes_detection.py',
]

# A small model that trains from scratch in two minutes: a narrow ResNet-18, narrow CSP layers, two decoder layers, few queries.
model = dict(
    num_queries=30,
    data_preprocessor=dict(batch_augments=None),
    backbone=dict(base_channels=32, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256], expansion=0.25, num_blocks=1, feedforward_channels=256, upsample_cfg=dict(type='DySample')),
    decoder=dict(num_layers=2, layer_cfg=dict(ffn_cfg=dict(feedforward_channels=256))),
    bbox_head=dict(num_classes=3),
    dn_cfg=dict(group_cfg=dict(num_dn_queries=30)),
    test_cfg=dict(max_per_img=30),
)

# A transformer learns slowly from scratch, so it trains for more epochs at a lower learning rate.
train_cfg = dict(max_epochs=10, val_interval=2)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, begin=0, end=10, T_max=10, convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=8e-4))
