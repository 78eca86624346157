"""Point sampling of a map whose channels lie side by side: a sample is a weighted sum of four rows of a table."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .layout import output_format


def rows_pay(x: Tensor) -> bool:
    """Whether a map is sampled faster by :func:`sample_rows` (measured on CPU: in 0.6 of the time at 1x256x120x120)."""
    return x.device.type == 'cpu' and output_format(x) is torch.channels_last


def sample_rows(x: Tensor, offset: Tensor, scale_factor: int, groups: int) -> Tensor:
    """:func:`~mmdysample.functional.dysample` of a map in ``channels_last``, to one in the same format, without a gradient.

    ``grid_sample`` would first copy the map; and it adds up single numbers where ``embedding_bag`` adds up vectors.

    Args:
        x: ``(B, C, H, W)``, in ``channels_last``.
        offset: ``(B, 2*g*s*s, H, W)``, of the dtype of ``x``, as :func:`~mmdysample.functional.sampling_grid` takes it.
        scale_factor: The upsampling ratio ``s``.
        groups: The number of groups ``g``.
    """
    batch, channels, height, width = x.shape
    s = scale_factor
    table = x.permute(0, 2, 3, 1).reshape(batch * height * width * groups, channels // groups)
    integer = torch.int32 if table.shape[0] < 2**31 else torch.int64
    steps = offset.view(batch, 2, groups, s, s, height, width).permute(1, 0, 5, 3, 6, 4, 2)
    # From here on one number for each sample, side by side: what broadcasts and strides save in memory they cost twice in time.
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


def _neighbours(position: Tensor, size: int, integer: torch.dtype) -> tuple[tuple[Tensor, Tensor], ...]:
    """The two pixels around each point along an axis, and their weights; a point outside is moved to the border."""
    position = position.clamp_(0, size - 1).nan_to_num_(0)
    lower = position.floor()
    fraction = position - lower
    pixel = lower.to(integer)
    return (pixel, 1 - fraction), ((pixel + 1).clamp_(max=size - 1), fraction)
