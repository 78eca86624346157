"""A stock neck, head or backbone with learned upsampling, in a config."""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional

import torch
from mmengine.registry import MODELS as ROOT
from torch import nn

from mmdysample.registry import MODELS
from mmdysample.upsamplers.builder import UpsampleConfig, named_config

from .replace import Patterns, insert_upsamplers
from .routing import is_routed, route

SIZES = (64, 96)  # pixels of the finest example map; two, to tell a ratio from a size that is fixed


@MODELS.register_module()
def Upsampled(  # noqa: N802 - it stands where classes stand in a config
    module: dict[str, Any],
    upsample_cfg: Optional[UpsampleConfig] = None,
    example_inputs: Optional[Sequence[Sequence[int]]] = None,
    include: Patterns = None,
    exclude: Patterns = None,
) -> nn.Module:
    """Build a module and put learned upsamplers where it upsamples.

    ::

        neck=dict(type='mmdysample.Upsampled', module=dict(type='PAFPN', ...), upsample_cfg=dict(type='DySample'))

    What comes back is the stock module itself, with children more: its weights keep their names, so that its checkpoints load.

    Args:
        module: Config of the module.
        upsample_cfg: As in :func:`~mmdysample.replace_upsample`. Without one, the module stays as it is.
        example_inputs: Shapes of the maps that the module is called with, ``[(1, 256, 64, 64), (1, 512, 32, 32)]``. By default they are
            derived from its ``in_channels``: maps of 64 pixels, half as many at each next level; or an image, for a backbone.
        include: As in :func:`~mmdysample.replace_upsample`.
        exclude: Likewise.

    Returns:
        The module.

    Raises:
        ValueError: As in :func:`~mmdysample.replace_upsample`, or the module does not run on the derived inputs.
    """
    config = named_config(upsample_cfg)
    if upsample_cfg and config is None:
        raise ValueError(f'Upsampled: upsample_cfg needs a type, got {upsample_cfg}; what the stock module takes belongs into module')
    built = ROOT.build(module)
    if config is None:
        return built
    candidates = _given(example_inputs) if example_inputs is not None else _candidates(built, module)
    insert_upsamplers(built, config, [(arguments, {}) for arguments in _first_that_runs(built, candidates)], include, exclude)
    if not is_routed(built):
        route(built)  # for init_weights, which must reach all below
    return built


def _first_that_runs(module: nn.Module, candidates: Iterable[list[tuple]]) -> list[tuple]:
    """Arguments that the module runs on, at each of the sizes."""
    problems = []
    for candidate in candidates:
        try:
            for arguments in candidate:
                with torch.no_grad():
                    _run_in_evaluation(module, arguments)
        except Exception as error:
            problems.append(f'{_shapes(candidate[0])}: {type(error).__name__}: {error}')
        else:
            return candidate
    tried = '; '.join(dict.fromkeys(problems)) or 'it has no in_channels'
    raise ValueError(
        f'Upsampled: found no inputs that {type(module).__name__} runs on ({tried}): give the shapes of its maps as example_inputs'
    )


def _given(shapes: Sequence[Sequence[int]]) -> Iterator[list[tuple]]:
    """Maps of these shapes: necks and heads take a list of them, backbones an image."""
    yield [([_feature_map(*shape) for shape in shapes],)]
    yield [tuple(torch.zeros(*shape) for shape in shapes)]


def _candidates(module: nn.Module, config: dict[str, Any]) -> Iterator[list[tuple]]:
    channels = _argument(module, config, 'in_channels')
    if isinstance(channels, int):
        yield [(torch.zeros(1, channels, size, size),) for size in SIZES]
        channels = [channels]
    if isinstance(channels, (list, tuple)):
        yield [(_maps(module, config, channels, size),) for size in SIZES]
        # YOLOV3Neck names the channels of the coarsest map first, though it takes the finest first.
        yield [(_maps(module, config, channels[::-1], size),) for size in SIZES]


def _maps(module: nn.Module, config: dict[str, Any], channels: Sequence[int], size: int) -> list[torch.Tensor]:
    """A map for each level; with those between that a head's ``in_index`` leaves out."""
    index = _argument(module, config, 'in_index')
    index = list(index) if isinstance(index, (list, tuple)) and min(index) >= 0 else list(range(len(channels)))
    strides = _argument(module, config, 'feature_strides') or [2**i for i in index]
    at = {i: (c, stride // min(strides)) for i, c, stride in zip(index, channels, strides)}
    known = [at.get(i, (1, 1)) for i in range(max(index) + 1)]
    return [_feature_map(1, c, size // stride, size // stride) for c, stride in known]


def _feature_map(*shape: int) -> torch.Tensor:
    """A map that comes out of trained layers, as what a neck or head is given does; unlike an image, it may be upsampled right away."""
    with torch.enable_grad():
        return torch.zeros(*shape, requires_grad=True).clone()


def _argument(module: nn.Module, config: dict[str, Any], name: str) -> Any:
    """An argument of a module: from its config, the module itself, or its default."""
    parameter = inspect.signature(type(module).__init__).parameters.get(name)
    default = None if parameter is None or parameter.default is parameter.empty else parameter.default
    return config.get(name, getattr(module, name, default))


def _run_in_evaluation(module: nn.Module, arguments: tuple) -> None:
    training = {part: part.training for part in module.modules()}
    try:
        module.eval()  # which may return None: mmseg's U-Net forgets to return itself
        module(*arguments)
    finally:
        for part, mode in training.items():
            part.training = mode


def _shapes(arguments: tuple) -> str:
    maps = arguments[0] if isinstance(arguments[0], list) else arguments
    return ', '.join(str(tuple(x.shape)) for x in maps)
