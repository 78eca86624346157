"""Models of other libraries, which know nothing of mmdysample: how each is built, called and trained.

Ultralytics is installed in a folder of its own, ``ultralytics`` in the environment that ``make foreign`` makes, because it asks for
torchvision's metadata, while transformers cannot be imported beside a torchvision that does not match torch.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

HEIGHT, WIDTH = 160, 224


class Example(NamedTuple):
    """A model, the inputs of a call, and its loss on a batch."""

    model: nn.Module
    inputs: Any
    loss: Callable[[nn.Module], Tensor]


def rt_detr() -> Example:
    """Build RT-DETR of transformers with a ResNet-18."""
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    stages = ['stage2', 'stage3', 'stage4']
    backbone = RTDetrResNetConfig(hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type='basic', out_features=stages)
    config = RTDetrConfig(
        backbone_config=backbone, encoder_in_channels=[128, 256, 512], decoder_layers=3, freeze_backbone_batch_norms=False
    )
    image = torch.randn(1, 3, HEIGHT, WIDTH)
    labels = [{'class_labels': torch.tensor([1]), 'boxes': torch.tensor([[0.5, 0.5, 0.2, 0.3]])}]
    model = RTDetrForObjectDetection(config)
    nn.init.normal_(model.model.enc_score_head.weight)
    return _normalise(Example(model, {'pixel_values': image}, lambda model: model(pixel_values=image, labels=labels).loss))


def _normalise(example: Example) -> Example:
    """Set the statistics of the batch norms to those of a batch.

    With the initial statistics the features of this image shrink to almost zero; then all scores are equal, and each runtime picks other
    ones of them.
    """
    norms = [module for module in example.model.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    example.model.train()
    with torch.no_grad():
        example.loss(example.model)
    for norm, momentum in zip(norms, before):
        norm.momentum = momentum
    return example


def ultralytics(name: str) -> Example:
    """Build a model of Ultralytics by the name of its configuration."""
    from ultralytics.nn import tasks
    from ultralytics.utils import DEFAULT_CFG

    model = (tasks.RTDETRDetectionModel if name.startswith('rtdetr') else tasks.DetectionModel)(name, verbose=False)
    model.args, model.nc = DEFAULT_CFG, 80  # as its trainer sets them
    batch = {
        'img': torch.rand(2, 3, HEIGHT, WIDTH),
        'batch_idx': torch.tensor([0.0, 1.0]),
        'cls': torch.tensor([[1.0], [2.0]]),
        'bboxes': torch.tensor([[0.5, 0.5, 0.2, 0.3], [0.4, 0.5, 0.2, 0.3]]),
    }
    example = Example(model, torch.randn(1, 3, HEIGHT, WIDTH), lambda model: model(batch)[0].sum())
    if not isinstance(model, tasks.RTDETRDetectionModel):
        return example
    nn.init.normal_(model.model[-1].enc_score_head.weight)
    return _normalise(example)


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
    maps = [torch.randn(2, c, HEIGHT // 2 ** (i + 2), WIDTH // 2 ** (i + 2)) for i, c in enumerate(sorted(in_channels))]
    inputs = (maps,) if maps else (torch.randn(2, 3, HEIGHT, WIDTH),)

    def loss(model: nn.Module) -> Tensor:
        return torch.stack([out.square().mean() for out in flat_tensors(model(*inputs))]).sum()

    return Example(model, inputs, loss)


class Foreign(NamedTuple):
    """A model and the distributions that contain it."""

    packages: tuple[str, ...]
    build: Callable[[], Example]


MMDET, MMSEG = ('mmdet', 'onedl-mmdetection'), ('mmsegmentation', 'onedl-mmsegmentation')
SEMANTIC_FPN: dict[str, Any] = {'in_index': [0, 1, 2, 3], 'feature_strides': [4, 8, 16, 32], 'channels': 128, 'num_classes': 19}
FOREIGN = {
    'RTDetrForObjectDetection': Foreign(('transformers',), rt_detr),
    'yolo11n.yaml': Foreign(('ultralytics',), lambda: ultralytics('yolo11n.yaml')),
    'rtdetr-resnet50.yaml': Foreign(('ultralytics',), lambda: ultralytics('rtdetr-resnet50.yaml')),
    'PAFPN': Foreign(MMDET, lambda: openmmlab('mmdet', 'PAFPN', [64, 128, 256], out_channels=256, num_outs=4)),
    'YOLOXPAFPN': Foreign(MMDET, lambda: openmmlab('mmdet', 'YOLOXPAFPN', [96, 192, 384], out_channels=96, num_csp_blocks=1)),
    'CSPNeXtPAFPN': Foreign(MMDET, lambda: openmmlab('mmdet', 'CSPNeXtPAFPN', [96, 192, 384], out_channels=96, num_csp_blocks=1)),
    # YOLOV3Neck lists the channels from the coarsest map to the finest, but takes the maps from the finest to the coarsest.
    'YOLOV3Neck': Foreign(MMDET, lambda: openmmlab('mmdet', 'YOLOV3Neck', [512, 256, 128], num_scales=3, out_channels=[256, 128, 64])),
    'FPNHead': Foreign(MMSEG, lambda: openmmlab('mmseg', 'FPNHead', [256] * 4, **SEMANTIC_FPN)),
    'UNet': Foreign(MMSEG, lambda: openmmlab('mmseg', 'UNet')),
}


def flat_tensors(value: Any) -> list[Tensor]:
    """Return the tensors in nested dicts, lists and tuples, in their order."""
    if isinstance(value, Tensor):
        return [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for child in children for tensor in flat_tensors(child)]


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
