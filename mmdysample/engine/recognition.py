"""Recognise the upsampler and the kind of FPN in the weights of a file."""

from collections.abc import Iterator
from typing import Any, Optional

import torch
from torch import Tensor, nn

from mmdysample.upsamplers.builder import UpsampleConfig, build_upsampler, list_upsamplers

# Ignored in comparisons: a file may lack init_pos, which is not learnt, and only older files have scope.bias.
OPTIONAL = {'init_pos', 'scope.bias'}
GROUPS = (1, 2, 4, 8, 16)


def fitting_options(state: dict[str, Tensor], model: nn.Module) -> str:
    """Return the command-line options with which the model of a config fits the weights of a file.

    Args:
        state: The weights.
        model: The model, whose necks and heads have their upsamplers in ``upsample_modules``.

    Returns:
        Options such as ``--upsampler DySample+``; an empty string if the model has the file's upsamplers already, or if they are unknown.
    """
    upsampler, options = None, []
    own = model.state_dict()
    for path, owner in model.named_modules():
        if not hasattr(owner, 'upsample_modules') or not any(name.startswith(f'{path}.') for name in state):
            continue
        theirs, ours = (_shapes(weights, f'{path}.upsample_modules.0.') for weights in (state, own))
        if theirs != ours and upsampler is None:
            channels: Any = getattr(owner, 'out_channels', None) or getattr(owner, 'channels', 0)
            upsampler = recognise(theirs, channels)
        if hasattr(owner, 'fuse_extra_levels') and (fused := _is_fused(state, path)) != owner.fuse_extra_levels:
            options.append(f'model.{path}.fuse_extra_levels={fused}')
    quote = '"' if upsampler and '(' in upsampler else ''
    parts = [f'--upsampler {quote}{upsampler}{quote}'] if upsampler else []
    twin = ['(or bilinear, which also has no weights)'] if upsampler == 'nearest' else []
    return ' '.join([*parts, *(['--cfg-options', *options] if options else []), *twin])


def recognise(shapes: dict[str, torch.Size], channels: int) -> Optional[str]:
    """Return the upsampler whose weights have given names and shapes.

    Args:
        shapes: The shapes of the weights, by their names within the upsampler.
        channels: Channels of the map.

    Returns:
        A value for ``--upsampler``, or None if no upsampler fits. Without weights it is ``nearest``, the default of mmdet's FPN.
    """
    for text, cfg in _candidates():
        try:
            with torch.device('meta'):
                module = build_upsampler(cfg, channels, preferred={'gating': False})
        except ValueError:  # this upsampler does not support the number of channels
            continue
        if _shapes(module.state_dict(), '') == shapes:
            return text
    return None


def _candidates() -> Iterator[tuple[str, UpsampleConfig]]:
    for name in list_upsamplers():
        yield name, name
        if name.startswith('DySample'):
            for groups in GROUPS:
                cfg: dict[str, Any] = {'type': name, 'groups': groups}
                yield f"dict(type='{name}', groups={groups})", cfg
        if name == 'FreqFusion':
            for option in ('feature_resample_norm', 'feature_resample'):  # the authors' Panoptic FPN has no norms
                yield f"dict(type='{name}', {option}=False)", {'type': name, option: False}


def _shapes(state: dict[str, Tensor], prefix: str) -> dict[str, torch.Size]:
    names = {name: name.removeprefix(prefix) for name in state if name.startswith(prefix)}
    return {short: state[name].shape for name, short in names.items() if short not in OPTIONAL}


def _is_fused(state: dict[str, Tensor], path: str) -> bool:
    """Return True if an FPN has extra levels in its top-down path: only their laterals are 3x3."""
    laterals = [value.shape for name, value in state.items() if name.startswith(f'{path}.lateral_convs.') and value.dim() == 4]
    return any(shape[-1] == 3 for shape in laterals)
