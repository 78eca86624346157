"""Point sampling by the path that suits the map, for upsamplers whose points other layers predict than DySample's."""

from typing import Optional

import torch
from torch import Tensor

from .dysample import dysample, sampling_offset
from .operators import sample
from .paths import choose_path


def sample_points(
    x: Tensor,
    offset: Tensor,
    scope: Optional[Tensor] = None,
    position: Optional[Tensor] = None,
    scope_factor: float = 1.0,
    scale_factor: int = 2,
    groups: int = 1,
) -> Tensor:
    """Upsample a map by sampling it bilinearly at the points of :func:`~mmdysample.functional.sampling_offset`.

    Args:
        x: ``(B, C, H, W)``.
        offset: ``(B, 2*g*s*s, H, W)``, the channels ordered as (x | y, group, row, column).
        scope: As ``offset``, or None.
        position: ``(1, 2*g*s*s, 1, 1)``, the points for a zero offset; None for the centre of the input pixel.
        scope_factor: As in :func:`~mmdysample.functional.sampling_offset`.
        scale_factor: The upsampling ratio ``s``; 1 moves the pixels of a map.
        groups: The number of groups ``g``; channels ``[i*C/g, (i+1)*C/g)`` are sampled at the points of group ``i``.

    Returns:
        ``(B, C, s*H, s*W)``, of the dtype of ``x``. A point outside the map takes the value of the nearest border pixel.

    Raises:
        ValueError: The shapes do not match.
    """
    differentiated = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, offset, scope))
    path = choose_path(x, scale_factor=scale_factor, training=differentiated)
    if path == 'plain':
        return dysample(x, sampling_offset(offset, scope, position, scope_factor), scale_factor, groups)
    if position is None:
        position = offset.new_zeros(1, offset.shape[1], 1, 1)
    return sample(x, offset, scope, position, scope_factor, scale_factor, groups, path == 'fused')
