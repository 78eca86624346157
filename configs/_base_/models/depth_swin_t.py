_base_ = './segmentor.py'

model = dict(
    type='DepthEstimator',
    data_preprocessor=dict(seg_pad_val=0, size=(416, 544)),  # 0 marks unknown depth
    backbone=dict(
        type='SwinTransformer',
        embed_dims=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        drop_path_rate=0.3,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/swin/swin_tiny_patch4_window7_224_20220317-1cdeb081.pth',
        ),
    ),
    decode_head=dict(
        type='mmdysample.DenseDepthHead',
        in_channels=[96, 192, 384, 768],
        min_depth=0.001,
        max_depth=10.0,
        loss_decode=dict(type='SiLogLoss'),
    ),
    # The prediction is the mean over the whole image of NYU Depth V2 and its mirror image.
    test_cfg=dict(mode='slide_flip', crop_size=(480, 640), stride=(480, 640)),
)
