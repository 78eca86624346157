# The built-in Shapes scenes, generated in COCO's panoptic layout if they are missing, and read like COCO.
_base_ = './coco_panoptic.py'

shapes = dict(root='{{$SHAPES_ROOT:data/shapes}}', train=256, val=64, size=128, seed=0)
data_root = shapes['root'] + '/coco'
metainfo = dict(
    classes=('circle', 'square', 'triangle', 'wall', 'ground'),
    thing_classes=('circle', 'square', 'triangle'),
    stuff_classes=('wall', 'ground'),
    palette=[(230, 60, 60), (60, 180, 75), (60, 90, 230), (200, 200, 200), (130, 100, 70)],
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdysample.LoadPanopticAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale_factor=1.0, keep_ratio=True),  # to record the scale; images keep their size, as in training
    dict(type='mmdysample.LoadPanopticAnnotations'),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]

train_dataloader = dict(
    batch_size=4, dataset=dict(data_root=data_root, metainfo=metainfo, filter_cfg=dict(min_size=1), pipeline=train_pipeline)
)
val_dataloader = dict(batch_size=8, dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(ann_file=data_root + '/annotations/panoptic_val2017.json', seg_prefix=data_root + '/annotations/panoptic_val2017/')
test_evaluator = val_evaluator
