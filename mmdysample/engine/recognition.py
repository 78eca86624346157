"""Which upsampler, and which pyramid, the weights of a file are of."""

from collections.abc import Iterator
from typing import Any, Optional

import torch
from torch import Tensor, nn

from mmdysample.upsamplers.builder import UpsampleConfig, build_upsampler, list_upsamplers

# Leave them out to compare: the one is the same in every file, the other only in older ones.
OPTIONAL = {'init_pos', 'scope.bias'}
GROUPS = (1, 2, 4, 8, 16)


def fitting_options(state: dict[str, Tensor], model: nn.Module) -> str:
    """The options of the command line with which a config's model would take the weights of a file.

    Args:
        state: The weights.
        model: The model, whose necks and heads have their upsamplers in ``upsample_modules``.

    Returns:
        Such as ``--upsampler DySample+``; empty where the file's upsamplers are the model's, or none that is known.
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
    twin = ['(or bilinear, which has no weights either)'] if upsampler == 'nearest' else []
    return ' '.join([*parts, *(['--cfg-options', *options] if options else []), *twin])


def recognise(shapes: dict[str, torch.Size], channels: int) -> Optional[str]:
    """Find the upsampler that has weights of these names and shapes.

    Args:
        shapes: By the names within the upsampler.
        channels: Channels of the map.

    Returns:
        What ``--upsampler`` would take; None if it is none that is known. Without weights it is ``nearest``, the stock pyramid's.
    """
    for text, cfg in _candidates():
        try:
            with torch.device('meta'):
                module = build_upsampler(cfg, channels, preferred={'gating': False})
        except ValueError:  # it cannot have so many channels
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


def _shapes(state: dict[str, Tensor], prefix: str) -> dict[str, torch.Size]:
    names = {name: name.removeprefix(prefix) for name in state if name.startswith(prefix)}
    return {short: state[name].shape for name, short in names.items() if short not in OPTIONAL}


def _is_fused(state: dict[str, Tensor], path: str) -> bool:
    """Whether a pyramid has extra levels in its top-down path: their laterals are 3x3."""
    laterals = [value.shape for name, value in state.items() if name.startswith(f'{path}.lateral_convs.') and value.dim() == 4]
    return any(shape[-1] == 3 for shape in laterals)
