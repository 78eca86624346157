# The built-in Shapes scenes, generated in ADE20K's layout if they are missing.
_base_ = './ade20k.py'

shapes = dict(root='{{$SHAPES_ROOT:data/shapes}}', train=256, val=64, size=128, seed=0)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomCrop', crop_size=(128, 128)),  # a scene is as large; other data has larger images, which keep their scale
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]

metainfo = dict(
    classes=('circle', 'square', 'triangle', 'wall', 'ground'),
    palette=[[230, 60, 60], [60, 180, 75], [60, 90, 230], [200, 200, 200], [130, 100, 70]],
)
scenes = dict(type='BaseSegDataset', data_root=shapes['root'] + '/ade', metainfo=metainfo, img_suffix='.png', reduce_zero_label=True)
train_dataloader = dict(batch_size=8, num_workers=2, dataset=dict(pipeline=train_pipeline, **scenes))
val_dataloader = dict(batch_size=8, num_workers=2, dataset=dict(pipeline=test_pipeline, **scenes))
test_dataloader = val_dataloader
del scenes
