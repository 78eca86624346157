"""Point sampling of ``channels_last`` maps on CPU.

The channels of a pixel are contiguous in such a map, so the map is a table with one row per pixel, and a bilinear sample is a weighted sum
of four rows.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .finite import finite_or_centre
from .layout import output_format


def rows_pay(x: Tensor) -> bool:
    """Return True if :func:`sample_rows` samples a map faster than ``grid_sample``.

    This holds for ``channels_last`` maps on CPU: a 1x256x120x120 map takes 0.6 of the time.
    """
    return x.device.type == 'cpu' and output_format(x) is torch.channels_last


def sample_rows(x: Tensor, offset: Tensor, scale_factor: int, groups: int) -> Tensor:
    """Upsample a ``channels_last`` map as :func:`~mmdysample.functional.dysample` does, on CPU and without gradients.

    ``grid_sample`` would first copy the map to the contiguous format, and it adds up single values where ``embedding_bag`` adds up vectors.

    Args:
        x: ``(B, C, H, W)``, ``channels_last``, on CPU.
        offset: ``(B, 2*g*s*s, H, W)``, of the dtype of ``x``, as in :func:`~mmdysample.functional.sampling_grid`.
        scale_factor: The upsampling ratio ``s``.
        groups: The number of groups ``g``.

    Returns:
        ``(B, C, s*H, s*W)``, ``channels_last``, of the dtype of ``x``.
    """
    batch, channels, height, width = x.shape
    s = scale_factor
    table = x.permute(0, 2, 3, 1).reshape(batch * height * width * groups, channels // groups)
    integer = index_dtype(4 * s * s * table.shape[0])
    steps = finite_or_centre(offset).view(batch, 2, groups, s, s, height, width).permute(1, 0, 5, 3, 6, 4, 2)
    # Materialise one contiguous value per sample: broadcasting saves memory but takes twice as long.
    columns = _neighbours((steps[0] + torch.arange(width).view(width, 1, 1)).flatten(), width, integer)
    lines = _neighbours((steps[1] + torch.arange(height).view(height, 1, 1, 1, 1)).flatten(), height, integer)
    first = torch.arange(batch, dtype=integer).view(batch, 1, 1) * (height * width * groups) + torch.arange(groups, dtype=integer)
    first = first.expand(batch, s * height * s * width, groups).flatten()
    corners = [
        (first.add(line, alpha=width * groups).add_(column, alpha=groups), by_line * by_column)
        for line, by_line in lines
        for column, by_column in columns
    ]
    indices, weights = (torch.stack(parts, dim=1) for parts in zip(*corners))
    out = F.embedding_bag(indices, table, per_sample_weights=weights, mode='sum')
    return out.view(batch, s * height, s * width, channels).permute(0, 3, 1, 2)


def index_dtype(indices: int) -> torch.dtype:
    """Return the dtype of the indices: int32, unless ``embedding_bag``, which counts all of them in their dtype, would exceed it."""
    return torch.int32 if indices < 2**31 else torch.int64


def _neighbours(position: Tensor, size: int, integer: torch.dtype) -> tuple[tuple[Tensor, Tensor], ...]:
    """Return the two pixels around each point along an axis, each as ``(index, weight)``.

    ``position`` is in pixels and is modified in place. A point outside the map is moved to the border.
    """
    position = position.clamp_(0, size - 1)
    lower = position.floor()
    fraction = position - lower
    pixel = lower.to(integer)
    return (pixel, 1 - fraction), ((pixel + 1).clamp_(max=size - 1), fraction)
