"""Upsampling onto a map of given size, as necks and heads need it."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


def upsample_as(upsampler: nn.Module, x: Tensor, finer: Tensor) -> Tensor:
    """Upsample a map to the size of the next finer one, which guides a guided upsampler.

    Args:
        upsampler: A module of ratio ``s``.
        x: ``(B, C, H, W)``.
        finer: ``(B, C_g, h, w)``, with ``h <= s*H`` and ``w <= s*W``: where a backbone halves an odd size, it rounds up.

    Returns:
        ``(B, C, h, w)``.

    Raises:
        ValueError: ``finer`` is larger than what the upsampler makes of ``x``.
    """
    height, width = finer.shape[2:]
    out = upsampler(x, _grow(finer, upsampler.scale_factor, x)) if getattr(upsampler, 'guided', False) else upsampler(x)
    if out.shape[2] < height or out.shape[3] < width:
        raise ValueError(
            f'the finer map must be at most as large as the upsampled one, got {height}x{width} over {out.shape[2]}x{out.shape[3]}: '
            'neighbouring levels must differ by the ratio of the upsampler'
        )
    return out[:, :, :height, :width]


def _grow(guide: Tensor, scale_factor: Any, x: Tensor) -> Tensor:
    """Repeat the last row and column of an odd-sized guide, up to the size of the upsampler's output."""
    rows, columns = (max(0, scale_factor * size - have) for size, have in zip(x.shape[2:], guide.shape[2:]))
    return F.pad(guide, (0, columns, 0, rows), mode='replicate') if rows or columns else guide
