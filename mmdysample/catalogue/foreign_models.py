"""Models of other libraries, which know nothing of mmdysample: how each is built, called and trained.

Ultralytics and what needs torchvision are installed in a folder of their own, ``ultralytics`` in the environment that
``make foreign`` makes, because transformers cannot be imported beside a torchvision that does not match torch.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .foreign_example import Example, two_images
from .foreign_transformers import TRANSFORMERS


def ultralytics(name: str) -> Example:
    """Build a model of Ultralytics by the name of its configuration."""
    from ultralytics.nn import tasks

    kind = 'RTDETRDetection' if name.startswith('rtdetr') else 'Segmentation' if '-seg' in name else 'Detection'
    model = getattr(tasks, f'{kind}Model')(name, verbose=False)
    if kind == 'RTDETRDetection':  # give the queries scores that differ, so that each runtime picks the same ones
        nn.init.normal_(model.model[-1].enc_score_head.weight)
    return Example(model)


def smp(kind: str) -> Example:
    """Build a model of segmentation_models_pytorch with a ResNet-18."""
    _torchvision()
    import segmentation_models_pytorch

    return Example(getattr(segmentation_models_pytorch, kind)('resnet18', encoder_weights=None, classes=5))


def hrnet() -> Example:
    """Build the feature maps of HRNet of timm."""
    _torchvision()
    import timm

    return Example(timm.create_model('hrnet_w18_small', features_only=True), has_features=True)


def _torchvision() -> None:
    """Import torchvision, which timm needs, also where its compiled operators do not match torch and are therefore missing."""
    for operator in ('nms', 'qnms'):
        try:
            import_module('torchvision')
        except RuntimeError:
            torch.library.define(f'torchvision::{operator}', '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')


def monai_unet() -> Example:
    """Build BasicUNet of MONAI with interpolation."""
    from monai.networks.nets import BasicUNet

    return Example(BasicUNet(spatial_dims=2, in_channels=3, out_channels=5, upsample='nontrainable'))


def diffusers_unet() -> Example:
    """Build UNet2DModel of diffusers."""
    from diffusers import UNet2DModel

    model = UNet2DModel(in_channels=3, out_channels=3, block_out_channels=(32, 64, 64), norm_num_groups=8, **DIFFUSION_BLOCKS)
    return Example(model, lambda height, width: (*two_images(height, width), torch.tensor([10, 20])))


DIFFUSION_BLOCKS = {'down_block_types': ('DownBlock2D',) * 3, 'up_block_types': ('UpBlock2D',) * 3, 'layers_per_block': 1}


def openmmlab(framework: str, kind: str, in_channels: Sequence[int] = (), **arguments: Any) -> Example:
    """Build a neck, head or backbone of mmdet or mmseg.

    Args:
        framework: ``'mmdet'`` or ``'mmseg'``.
        kind: Name of the class.
        in_channels: Channels of the feature maps that a neck or head is called with; empty for a backbone, which is called with an image.
        **arguments: Other arguments of the class.
    """
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import MODELS, init_default_scope

    import_module(f'{framework}.models')
    init_default_scope(framework)
    channels = {'in_channels': in_channels} if in_channels else {}
    model = revert_sync_batchnorm(MODELS.build({'type': kind, **channels, **arguments}))
    if not in_channels:
        return Example(model)

    def at(height: int, width: int) -> tuple[list[Tensor]]:
        # Convolutions with padding round up.
        return ([torch.randn(2, c, -(-height // 4 // 2**i), -(-width // 4 // 2**i)) for i, c in enumerate(sorted(in_channels))],)

    return Example(model, at)


BESIDE = ('ultralytics', 'segmentation-models-pytorch', 'timm')  # what is installed in the separate folder


class Foreign(NamedTuple):
    """A model and the distributions that contain it."""

    packages: tuple[str, ...]
    build: Callable[[], Example]


MMDET, MMSEG = ('mmdet', 'onedl-mmdetection'), ('mmsegmentation', 'onedl-mmsegmentation')
SEMANTIC_FPN: dict[str, Any] = {'in_index': [0, 1, 2, 3], 'feature_strides': [4, 8, 16, 32], 'channels': 128, 'num_classes': 19}
YAMLS = ('yolo11n.yaml', 'yolo11n-seg.yaml', 'yolov8n.yaml', 'rtdetr-resnet50.yaml')
SMP = ('Unet', 'UnetPlusPlus', 'FPN', 'DeepLabV3Plus', 'MAnet', 'UPerNet', 'Segformer', 'PAN')
FOREIGN = {
    **{name: Foreign(('transformers',), build) for name, build in TRANSFORMERS.items()},
    **{name: Foreign(('ultralytics',), partial(ultralytics, name)) for name in YAMLS},
    **{f'smp.{kind}': Foreign(('segmentation-models-pytorch',), partial(smp, kind)) for kind in SMP},
    'hrnet_w18_small': Foreign(('timm',), hrnet),
    'BasicUNet': Foreign(('monai',), monai_unet),
    'UNet2DModel': Foreign(('diffusers',), diffusers_unet),
    'PAFPN': Foreign(MMDET, lambda: openmmlab('mmdet', 'PAFPN', [64, 128, 256], out_channels=256, num_outs=4)),
    'YOLOXPAFPN': Foreign(MMDET, lambda: openmmlab('mmdet', 'YOLOXPAFPN', [96, 192, 384], out_channels=96, num_csp_blocks=1)),
    'CSPNeXtPAFPN': Foreign(MMDET, lambda: openmmlab('mmdet', 'CSPNeXtPAFPN', [96, 192, 384], out_channels=96, num_csp_blocks=1)),
    # YOLOV3Neck lists the channels from the coarsest map to the finest, but takes the maps from the finest to the coarsest.
    'YOLOV3Neck': Foreign(MMDET, lambda: openmmlab('mmdet', 'YOLOV3Neck', [512, 256, 128], num_scales=3, out_channels=[256, 128, 64])),
    'FPNHead': Foreign(MMSEG, lambda: openmmlab('mmseg', 'FPNHead', [256] * 4, **SEMANTIC_FPN)),
    'UNet': Foreign(MMSEG, lambda: openmmlab('mmseg', 'UNet')),
}


def distribution(packages: tuple[str, ...]) -> str:
    """Return name and version of the first distribution that is installed, or an empty string."""
    for package in packages:
        try:
            return f'{package} {version(package)}'
        except PackageNotFoundError:
            continue
    return ''


def available() -> list[str]:
    """Return the names of the models whose library is installed."""
    beside = Path(sys.prefix) / 'ultralytics'
    if beside.is_dir():
        sys.path.append(str(beside))
    try:
        return [name for name, foreign in FOREIGN.items() if distribution(foreign.packages)]
    finally:
        if beside.is_dir():
            sys.path.remove(str(beside))
