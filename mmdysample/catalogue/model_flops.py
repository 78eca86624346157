"""Count the multiplications of whole models and of their upsamplers: the FLOPs of the field's tables, one for each multiply-add."""

import copy
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mmdysample.engine.upsampler import use_upsampler

from .flops import FLOPS_PER_MULTIPLICATION, FORMULAS
from .model_size import read_config

SAMPLES = {'mmdet': 'DetDataSample', 'mmseg': 'SegDataSample'}


class Call(NamedTuple):
    """The name of an upsampler in its model, and the shapes of its inputs and its options in one call."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    options: dict[str, Any]


def count_upsamplers(config: str, upsampler: str, height: int, width: int) -> int:
    """Count the multiplications of the upsamplers of a model for one image.

    Args:
        config: Path of the config below the folder of configs.
        upsampler: The value of ``--upsampler``.
        height: Height of the padded image that the network sees, in pixels.
        width: Its width.

    Raises:
        ImportError: The framework of the config is not installed.
        ValueError: There is no such upsampler, or no module of the model takes one.
    """
    model = _build(config, upsampler, 'meta')
    calls = _calls(model, config, height, width)
    counter = FlopCounterMode(display=False, custom_mapping=FORMULAS)
    with torch.no_grad(), counter:
        for call in calls:
            model.get_submodule(call.name)(*(torch.empty(shape, device='meta') for shape in call.shapes), **call.options)
    return counter.get_total_flops() // FLOPS_PER_MULTIPLICATION


@lru_cache
def count_rest(config: str, height: int, width: int) -> int:
    """Count the multiplications of a model for one image without its upsamplers, in convolutions and matrix products.

    Args:
        config: Path of the config below the folder of configs.
        height: Height of the padded image that the network sees, in pixels.
        width: Its width.

    Raises:
        ImportError: The framework of the config is not installed.
    """
    # A detector runs on CPU, because its proposals depend on values. With initial weights it keeps the maximum number of proposals.
    model = _build(config, 'nearest', 'cpu' if _is_detector(config) else 'meta')
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        _run(model, config, height, width)
    return counter.get_total_flops() // FLOPS_PER_MULTIPLICATION


def _is_detector(config: str) -> bool:
    return read_config(config).default_scope == 'mmdet'


def _build(config: str, upsampler: str, device: str) -> Any:
    cfg: Config = copy.deepcopy(read_config(config))
    use_upsampler(cfg, upsampler)
    # The backbones of mmseg's models read values while they are built, which the meta device does not have.
    with torch.device(device if _is_detector(config) else 'cpu'), DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(cfg.model).to(device).eval()


def _calls(model: Any, config: str, height: int, width: int) -> list[Call]:
    """Return the calls of the upsamplers of a model on the meta device for one image."""
    calls: list[Call] = []

    def recorder(name: str) -> Any:
        return lambda module, inputs, options: calls.append(Call(name, tuple(tuple(x.shape) for x in inputs), options))

    handles = [
        module.register_forward_pre_hook(recorder(name), with_kwargs=True)
        for name, module in model.named_modules()
        if name.split('.')[-2:-1] == ['upsample_modules']
    ]
    with torch.no_grad():
        if _is_detector(config):
            model.extract_feat(torch.empty(1, 3, height, width, device='meta'))
        else:
            _run(model, config, height, width)
    for handle in handles:
        handle.remove()
    return calls


def _run(model: Any, config: str, height: int, width: int) -> None:
    scope = read_config(config).default_scope
    size = (height, width)
    meta = dict(img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size, scale_factor=(1.0, 1.0))
    sample = getattr(import_module(f'{scope}.structures'), SAMPLES[scope])(metainfo=meta)
    device = next(model.parameters()).device
    image: Tensor = torch.empty(1, 3, *size, device=device) if device.type == 'meta' else torch.randn(1, 3, *size)
    if scope == 'mmseg':
        model.decode_head(*_head_inputs(model, image, sample))
    else:
        model(image, [sample], mode='tensor')


def _head_inputs(model: Any, image: Tensor, sample: Any) -> tuple[Any, ...]:
    """Return the inputs of the decode head. That of MaskFormer, which extends mmdet's, also takes samples."""
    features = model.extract_feat(image)
    return (features, [sample]) if hasattr(model.decode_head, 'pixel_decoder') else (features,)
