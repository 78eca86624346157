"""Upsampling between the levels of a feature pyramid, for necks and heads."""

from collections.abc import Sequence
from typing import Any, Optional

import torch.nn.functional as F
from torch import Tensor, nn

from .base import ShapeError
from .builder import build_upsampler
from .containers import ModuleList


def build_steps(
    cfg: dict[str, Any], channels: int, count: int, preferred: Optional[dict[str, Any]] = None, guide_channels: Optional[int] = None
) -> ModuleList:
    """Return a list of x2 upsamplers, one for each step from a level of a feature pyramid to the next finer level.

    Args:
        cfg: The config of the upsampler, with a ``type``.
        channels: Channels of every level.
        count: The number of steps.
        preferred: As in :func:`~mmdysample.build_upsampler`.
        guide_channels: Channels of the guide. The default is ``channels``.

    Returns:
        The upsamplers, in a list that passes ``init_weights`` on to each.

    Raises:
        ValueError: The upsampler is unknown, does not support ``channels``, or has a ``scale_factor`` other than 2.
    """
    if cfg.get('scale_factor', 2) != 2:
        raise ValueError(f'each level is twice as large as the next, so scale_factor must be 2, got {cfg["scale_factor"]}')
    return ModuleList([build_upsampler(cfg, channels, guide_channels=guide_channels, preferred=preferred) for _ in range(count)])


def upsample_as(upsampler: nn.Module, x: Tensor, finer: Tensor) -> Tensor:
    """Upsample a map to the size of the next finer map, which a guided upsampler takes as its guide.

    Args:
        upsampler: An upsampling layer of ratio ``s``.
        x: ``(B, C, H, W)``.
        finer: ``(B, C_g, h, w)``, with ``s*H - s < h <= s*H`` and ``s*W - s < w <= s*W``. It may be smaller than ``(s*H, s*W)``, because
            a backbone rounds up when it halves an odd size.

    Returns:
        ``(B, C, h, w)``.

    Raises:
        ShapeError: The size of ``finer`` is not in this range.
    """
    out = upsampler(x, _grow(finer, upsampler.scale_factor, x)) if getattr(upsampler, 'guided', False) else upsampler(x)
    return crop(out, x, finer.shape[2:])


def crop(out: Tensor, x: Tensor, size: Sequence[int]) -> Tensor:
    """Crop an upsampled map to the size of the next finer one, which is smaller where the backbone rounded up.

    Args:
        out: The output of an upsampler for ``x``, ``(B, C, s*H, s*W)``.
        x: ``(B, C, H, W)``.
        size: ``(h, w)``, with ``s*H - s < h <= s*H`` and ``s*W - s < w <= s*W``.

    Returns:
        ``(B, C, h, w)``.

    Raises:
        ShapeError: ``size`` is not in this range.
    """
    height, width = size
    for made, coarse, wanted in zip(out.shape[2:], x.shape[2:], (height, width)):
        if not 0 <= made - wanted < max(1, made // coarse):
            raise ShapeError(
                f'neighbouring levels must differ by the ratio of the upsampler: it upsampled {tuple(x.shape[2:])} to '
                f'{tuple(out.shape[2:])}, but the finer map is {(height, width)}'
            )
    return out[:, :, :height, :width]


def _grow(guide: Tensor, scale_factor: Any, x: Tensor) -> Tensor:
    """Extend a guide to the size of the upsampler's output by repeating its last row and column."""
    rows, columns = (max(0, scale_factor * size - have) for size, have in zip(x.shape[2:], guide.shape[2:]))
    return F.pad(guide, (0, columns, 0, rows), mode='replicate') if rows or columns else guide
