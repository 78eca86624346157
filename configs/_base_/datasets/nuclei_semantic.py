# The nuclei of the Data Science Bowl 2018 with corrected masks (CC0), as tools/prepare_nuclei.py makes them. Images have 256x256 to 360x360
# pixels. Label maps have the background, the inside of nuclei, and a border of one pixel on each side of their edges.
data_root = '{{$NUCLEI_ROOT:data/nuclei}}'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomCrop', crop_size=(192, 192)),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]

nuclei = dict(
    type='BaseSegDataset',
    data_root=data_root,
    metainfo=dict(classes=('background', 'inside', 'border'), palette=[[0, 0, 0], [90, 150, 255], [255, 200, 0]]),
    img_suffix='.png',
)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(data_prefix=dict(img_path='train', seg_map_path='labels/train'), pipeline=train_pipeline, **nuclei),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(data_prefix=dict(img_path='val', seg_map_path='labels/val'), pipeline=test_pipeline, **nuclei),
)
test_dataloader = val_dataloader
del nuclei

val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = dict(type='mmdysample.SegmentationMetric')
