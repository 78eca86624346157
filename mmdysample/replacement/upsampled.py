"""A stock neck, head or backbone with learned upsampling, in a config."""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional

import torch
from mmengine.logging import print_log
from mmengine.registry import MODELS as ROOT
from torch import nn

from mmdysample.registry import MODELS
from mmdysample.upsamplers.builder import UpsampleConfig, named_config

from .calls import ExampleError, as_it_was, run_once
from .example import Example, tensors
from .replace import Patterns, insert_upsamplers
from .routing import is_routed, route

SIZE = 64  # pixels of the finest example map


@MODELS.register_module()
def Upsampled(  # noqa: N802 - it stands where classes stand in a config
    module: dict[str, Any],
    upsample_cfg: Optional[UpsampleConfig] = None,
    example_inputs: Optional[Sequence[Sequence[int]]] = None,
    include: Patterns = None,
    exclude: Patterns = None,
    **stray: Any,
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
        stray: Nothing: arguments of the stock module belong into ``module``.

    Returns:
        The module. The report on its sites goes to mmengine's log.

    Raises:
        ValueError: As in :func:`~mmdysample.replace_upsample`, or the module does not run on the derived inputs.
    """
    if stray or not isinstance(module, dict):
        raise ValueError(
            f'Upsampled: the stock module, with all its arguments, belongs into module=dict(type=...), got {", ".join(stray) or module}; a '
            'config that inherits a neck with arguments needs _delete_=True beside type, and --cfg-options cannot wrap a neck'
        )
    config = named_config(upsample_cfg)
    if upsample_cfg and config is None:
        raise ValueError(f'Upsampled: upsample_cfg needs a type, got {upsample_cfg}; what the stock module takes belongs into module')
    built = ROOT.build(module)
    if config is None:
        return built
    candidates = _given(example_inputs) if example_inputs is not None else _candidates(built, module)
    report = insert_upsamplers(built, config, _first_that_runs(built, candidates), include, exclude)
    print_log(f'mmdysample.Upsampled, {type(built).__name__}:\n{report}', 'current')
    if not is_routed(built):
        route(built)  # for init_weights, which must reach all below
    return built


def _first_that_runs(module: nn.Module, candidates: Iterable[Example]) -> Example:
    problems = []
    for candidate in candidates:
        try:
            with as_it_was(module):
                run_once(module, candidate)
        except ExampleError as error:
            shapes = ', '.join(str(tuple(x.shape)) for x in tensors(candidate))
            problems.append(f'{shapes}: {error.why}')
        else:
            return candidate
    tried = '; '.join(dict.fromkeys(problems)) or 'it has no in_channels'
    raise ValueError(
        f'Upsampled: found no inputs that {type(module).__name__} runs on ({tried}): give the shapes of its maps as example_inputs'
    )


def _given(shapes: Sequence[Sequence[int]]) -> Iterator[Example]:
    """Maps of these shapes: necks and heads take a list of them, backbones an image."""
    if isinstance(shapes, str) or not all(isinstance(shape, (list, tuple)) and len(shape) == 4 for shape in shapes):
        raise ValueError(f'Upsampled: example_inputs are the shapes of its maps, as in [(1, 256, 64, 64), (1, 512, 32, 32)], got {shapes}')
    yield Example(([_feature_map(*shape) for shape in shapes],), {})
    yield Example(tuple(torch.zeros(*shape) for shape in shapes), {})


def _candidates(module: nn.Module, config: dict[str, Any]) -> Iterator[Example]:
    channels = _argument(module, config, 'in_channels')
    if isinstance(channels, int):
        yield Example((torch.zeros(1, channels, SIZE, SIZE),), {})
        channels = [channels]
    if isinstance(channels, (list, tuple)):
        yield Example((_maps(module, config, channels),), {})
        # YOLOV3Neck names the channels of the coarsest map first, though it takes the finest first.
        yield Example((_maps(module, config, channels[::-1]),), {})


def _maps(module: nn.Module, config: dict[str, Any], channels: Sequence[int]) -> list[torch.Tensor]:
    """A map for each level; with those between that a head's ``in_index`` leaves out."""
    index = _argument(module, config, 'in_index')
    index = list(index) if isinstance(index, (list, tuple)) and min(index) >= 0 else list(range(len(channels)))
    strides = _argument(module, config, 'feature_strides') or [2**i for i in index]
    at = {i: (c, stride // min(strides)) for i, c, stride in zip(index, channels, strides)}
    known = [at.get(i, (1, 1)) for i in range(max(index) + 1)]
    return [_feature_map(1, c, SIZE // stride, SIZE // stride) for c, stride in known]


def _feature_map(*shape: int) -> torch.Tensor:
    """A map that comes out of trained layers, as what a neck or head is given does; unlike an image, it may be upsampled right away."""
    return torch.zeros(*shape, requires_grad=True)


def _argument(module: nn.Module, config: dict[str, Any], name: str) -> Any:
    """An argument of a module: from its config, the module itself, or its default."""
    parameter = inspect.signature(type(module).__init__).parameters.get(name)
    default = None if parameter is None or parameter.default is parameter.empty else parameter.default
    return config.get(name, getattr(module, name, default))
