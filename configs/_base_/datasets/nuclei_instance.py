# The nuclei of nuclei_semantic.py with a mask for each.
_base_ = './coco_instance.py'

data_root = '{{$NUCLEI_ROOT:data/nuclei}}'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale_factor=1.0, keep_ratio=True),  # records the scale, which masks need
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
nuclei = dict(data_root=data_root, metainfo=dict(classes=('nucleus',), palette=[[90, 150, 255]]))
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=False,  # so that a killed training resumes exactly
    dataset=dict(ann_file='annotations/instances_train.json', data_prefix=dict(img='train/'), pipeline=train_pipeline, **nuclei),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(ann_file='annotations/instances_val.json', data_prefix=dict(img='val/'), pipeline=test_pipeline, **nuclei),
)
test_dataloader = val_dataloader
del nuclei

val_evaluator = dict(ann_file=data_root + '/annotations/instances_val.json')
test_evaluator = [
    dict(
        type='CocoMetric',
        ann_file=data_root + '/annotations/instances_val.json',
        metric=['bbox', 'segm'],
        proposal_nums=(1, 10, 100),  # AP75 takes the last of these, AP always 100
    ),
    dict(type='mmdysample.BoundaryAPMetric', ann_file=data_root + '/annotations/instances_val.json'),
]
