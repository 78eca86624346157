# The built-in Shapes scenes, generated in NYU's layout if they are missing.
_base_ = './nyu.py'

shapes = dict(root='{{$SHAPES_ROOT:data/shapes}}', train=256, val=64, size=128, seed=0)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadDepthAnnotation', depth_rescale_factor=1e-3),
    dict(type='RandomCrop', crop_size=(128, 128)),  # a scene is as large; other data has larger images, which keep their scale
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]

scenes = dict(data_root=shapes['root'] + '/nyu', img_suffix='.png')
train_dataloader = dict(num_workers=2, dataset=dict(pipeline=train_pipeline, **scenes))
val_dataloader = dict(batch_size=8, num_workers=2, dataset=scenes)
test_dataloader = val_dataloader
del scenes

# The wall at 10 m must be evaluated as well, so the maximum is larger than 10. No border is cropped.
val_evaluator = dict(max_depth_eval=20.0, crop_type=None)
test_evaluator = val_evaluator
