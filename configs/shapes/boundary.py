_base_ = ['../_base_/models/segmentor.py', '../_base_/datasets/shapes_semantic.py', '../_base_/schedules/shapes_semantic.py']

# An experiment in which the upsampler decides the result: the head reads only strides 16 and 32 of a small encoder, and every x2 step up to
# full resolution is done by the upsampler. Objects are 8 to 39 pixels wide, a few cells of these maps at most, which limits
# interpolation.
shapes = dict(root='{{$SHAPES_ROOT:data/shapes}}_64', train=512, val=128, size=64, seed=0)
train_dataloader = dict(batch_size=16, dataset=dict(data_root=shapes['root'] + '/ade'))
val_dataloader = dict(dataset=dict(data_root=shapes['root'] + '/ade'))
test_dataloader = val_dataloader
test_evaluator = [
    dict(type='IoUMetric', iou_metrics=['mIoU']),
    dict(type='mmdysample.BoundaryIoUMetric', forms=['near_boundary_iou', 'boundary_iou']),
]

model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(type='mmdysample.FullResNet', depth=18, stem_channels=16, base_channels=32, norm_cfg=dict(type='BN', requires_grad=True)),
    decode_head=dict(
        type='mmdysample.CoarseHead',
        in_channels=[16, 16, 32, 64, 128, 256],
        in_index=[0, 1, 2, 3, 4, 5],
        channels=32,
        num_classes=5,
        norm_cfg=dict(type='BN', requires_grad=True),
        align_corners=False,
        dropout_ratio=0.0,
        upsample_cfg=dict(type='DySample+'),
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    # An auxiliary head at stride 8 lets the encoder learn within minutes. The main head does not see its features.
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=64,
        in_index=3,
        channels=32,
        num_convs=1,
        concat_input=False,
        num_classes=5,
        norm_cfg=dict(type='BN', requires_grad=True),
        align_corners=False,
        dropout_ratio=0.0,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4),
    ),
)

optim_wrapper = dict(optimizer=dict(lr=6e-3))
train_cfg = dict(max_iters=500, val_interval=500)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=30, end=500, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=100))
