_base_ = [
    '_base_/models/dupsample_r50.py',
    '_base_/datasets/ade20k.py',
    '_base_/schedules/adamw_160k.py',
    '_base_/mmseg_runtime.py',
]

# Fit the matrix to the labels first, as follows. Without it, the matrix is learned with the other weights.
#   python tools/fit_dupsample.py configs/dupsample_r50.py --scale-factor 16 --out work_dirs/ade20k_x16.pth
#   python tools/train.py configs/dupsample_r50.py --cfg-options model.decode_head.matrix=work_dirs/ade20k_x16.pth
