"""A config type that builds a neck, head or backbone of mmdet or mmseg with learned upsampling."""

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

SIZE = 64  # height and width of the finest example map


@MODELS.register_module()
def Upsampled(  # noqa: N802 - configs use it like the name of a class
    module: dict[str, Any],
    upsample_cfg: Optional[UpsampleConfig] = None,
    example_inputs: Optional[Sequence[Sequence[int]]] = None,
    include: Patterns = None,
    exclude: Patterns = None,
    **stray: Any,
) -> nn.Module:
    """Build a module and replace its upsampling by learned upsamplers.

    ::

        neck=dict(type='mmdysample.Upsampled', module=dict(type='PAFPN', ...), upsample_cfg=dict(type='DySample'))

    The result is the module itself with additional children. Its weights keep their names, so its checkpoints load.

    Args:
        module: The config of the module.
        upsample_cfg: As in :func:`~mmdysample.replace_upsample`. Without it, the module is unchanged.
        example_inputs: The shapes of the maps that the module is called with, such as ``[(1, 256, 64, 64), (1, 512, 32, 32)]``. By
            default, they are derived from the module's ``in_channels``. If that is one number, as for a backbone, the input is a 64x64
            image. Otherwise it is one map for each level: 64x64 at the finest level, and half the size at each next level unless the module
            has ``feature_strides``.
        include: As in :func:`~mmdysample.replace_upsample`.
        exclude: As in :func:`~mmdysample.replace_upsample`.
        stray: Not allowed; it exists to explain the mistake of passing arguments of the module here instead of in ``module``.

    Returns:
        The module. mmengine's log gets the report on the replaced calls.

    Raises:
        ValueError: For the same reasons as :func:`~mmdysample.replace_upsample`; or an argument is invalid; or the module does not run on
            the derived inputs.
    """
    if stray or not isinstance(module, dict):
        raise ValueError(
            f'Upsampled: the original module and all its arguments belong in module=dict(type=...), got {", ".join(stray) or module}; a '
            'config that inherits a neck with arguments needs _delete_=True next to type, and --cfg-options cannot wrap a neck'
        )
    config = named_config(upsample_cfg)
    if upsample_cfg and config is None:
        raise ValueError(f'Upsampled: upsample_cfg needs a type, got {upsample_cfg}; arguments of the original module belong in module')
    built = ROOT.build(module)
    if config is None:
        return built
    candidates = _given(example_inputs) if example_inputs is not None else _candidates(built, module)
    report = insert_upsamplers(built, config, _first_that_runs(built, candidates), include, exclude)
    print_log(f'mmdysample.Upsampled, {type(built).__name__}:\n{report}', 'current')
    if not is_routed(built):
        route(built)  # so that init_weights of the module also initialises the upsamplers in its children
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
    """Yield two examples with maps of the given shapes: as one list, for necks and heads, and as separate arguments, for backbones."""
    if isinstance(shapes, str) or not all(isinstance(shape, (list, tuple)) and len(shape) == 4 for shape in shapes):
        raise ValueError(
            f'Upsampled: example_inputs must be the shapes of its maps, as in [(1, 256, 64, 64), (1, 512, 32, 32)], got {shapes}'
        )
    yield Example(([_feature_map(*shape) for shape in shapes],), {})
    yield Example(tuple(torch.zeros(*shape) for shape in shapes), {})


def _candidates(module: nn.Module, config: dict[str, Any]) -> Iterator[Example]:
    channels = _argument(module, config, 'in_channels')
    if isinstance(channels, int):
        yield Example((torch.zeros(1, channels, SIZE, SIZE),), {})
        channels = [channels]
    if isinstance(channels, (list, tuple)):
        yield Example((_maps(module, config, channels),), {})
        # YOLOV3Neck lists in_channels from the coarsest map to the finest, but takes the maps in the opposite order.
        yield Example((_maps(module, config, channels[::-1]),), {})


def _maps(module: nn.Module, config: dict[str, Any], channels: Sequence[int]) -> list[torch.Tensor]:
    """Return a map for each level; a level that a head's ``in_index`` leaves out gets a placeholder with one channel."""
    index = _argument(module, config, 'in_index')
    index = list(index) if isinstance(index, (list, tuple)) and min(index) >= 0 else list(range(len(channels)))
    strides = _argument(module, config, 'feature_strides') or [2**i for i in index]
    at = {i: (c, stride // min(strides)) for i, c, stride in zip(index, channels, strides)}
    known = [at.get(i, (1, 1)) for i in range(max(index) + 1)]
    return [_feature_map(1, c, SIZE // stride, SIZE // stride) for c, stride in known]


def _feature_map(*shape: int) -> torch.Tensor:
    """Return a map that requires a gradient, like the output of a trained backbone.

    An upsampler may therefore replace a call that upsamples this map directly, which is not so for an image.
    """
    return torch.zeros(*shape, requires_grad=True)


def _argument(module: nn.Module, config: dict[str, Any], name: str) -> Any:
    """Return an argument of a module from its config, else its attribute of that name, else the default of its constructor."""
    parameter = inspect.signature(type(module).__init__).parameters.get(name)
    default = None if parameter is None or parameter.default is parameter.empty else parameter.default
    return config.get(name, getattr(module, name, default))
