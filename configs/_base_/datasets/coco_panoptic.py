_base_ = './coco_detection.py'

data_root = '{{$COCO_ROOT:data/coco}}'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdysample.LoadPanopticAnnotations'),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    dict(type='mmdysample.LoadPanopticAnnotations'),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]

train_dataloader = dict(
    dataset=dict(
        type='CocoPanopticDataset',
        ann_file='annotations/panoptic_train2017.json',
        data_prefix=dict(seg='annotations/panoptic_train2017/'),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type='CocoPanopticDataset',
        ann_file='annotations/panoptic_val2017.json',
        data_prefix=dict(seg='annotations/panoptic_val2017/'),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader

val_evaluator = dict(
    _delete_=True,
    type='mmdysample.CocoPanopticMetric',
    ann_file=data_root + '/annotations/panoptic_val2017.json',
    seg_prefix=data_root + '/annotations/panoptic_val2017/',
)
test_evaluator = val_evaluator
