"""Bilinear samples of maps: ``grid_sample``, and the same for devices and runtimes that lack it.

Points are in normalised coordinates, x before y: the map reaches from -1 to 1 (``align_corners=False``).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .capture import gathers_only

PADDING_MODES = ('border', 'zeros')


def sample_bilinear(maps: Tensor, grid: Tensor, padding_mode: str = 'border') -> Tensor:
    """Sample maps bilinearly, as :func:`torch.nn.functional.grid_sample` does, on any device.

    Args:
        maps: ``(N, C, H, W)``, any floating dtype.
        grid: ``(N, h, w, 2)``, of the dtype of ``maps``.
        padding_mode: What a point beyond the map takes: ``'border'``, the value of the nearest border pixel, and no gradient to the point;
            or ``'zeros'``.

    Returns:
        ``(N, C, h, w)``, of the dtype of ``maps``.

    Raises:
        ValueError: ``padding_mode`` is another one.
    """
    if padding_mode not in PADDING_MODES:
        raise ValueError(f"padding_mode must be 'border' or 'zeros', got {padding_mode!r}")
    if gathers_only():
        return sample_by_gathers(maps, grid, padding_mode)
    if has_no_deterministic_backward(maps.device) and torch.are_deterministic_algorithms_enabled():
        return sample_by_gathers(maps, grid, padding_mode)
    if padding_mode == 'border' and not pads_borders(maps.device):
        return sample_clamped(maps, grid)
    return F.grid_sample(maps, grid, mode='bilinear', padding_mode=padding_mode, align_corners=False)


def pads_borders(device: torch.device) -> bool:
    """Whether ``grid_sample`` knows ``padding_mode='border'`` on a device."""
    # Where it does, that is exact; clamping first takes 2% longer and moves a point by a rounding (1x256x120x120 on a CPU: 41.9 and
    # 42.7 ms; 129.2 and 129.9 with the backward pass; outputs up to 9e-5 apart).
    return device.type != 'mps'


def has_no_deterministic_backward(device: torch.device) -> bool:
    """Whether the backward pass of ``grid_sample`` is an error under ``torch.use_deterministic_algorithms(True)`` on a device."""
    return device.type == 'cuda'


def sample_clamped(maps: Tensor, grid: Tensor) -> Tensor:
    """:func:`sample_bilinear` with border values from a ``grid_sample`` that knows zeros alone, as that of MPS.

    Args:
        maps: ``(N, C, H, W)``.
        grid: ``(N, h, w, 2)``.
    """
    # In coordinates that reach from the first pixel's centre to the last one's, because there the limits are -1 and 1, without rounding:
    # the least bit beyond a border pixel would mix in the zeros.
    stretched = [grid[..., i] * (size / max(size - 1, 1)) for i, size in enumerate((maps.shape[3], maps.shape[2]))]
    # Not clamp: its gradient is 1 at the limits themselves, that of padding 0.
    inside = F.hardtanh(torch.stack(stretched, dim=-1))
    return F.grid_sample(maps, inside, mode='bilinear', padding_mode='zeros', align_corners=True)


def sample_by_gathers(maps: Tensor, grid: Tensor, padding_mode: str = 'border') -> Tensor:
    """:func:`sample_bilinear` in arithmetics and a look-up of rows, ONNX's plainest Gather; any size may change after the export.

    Args:
        maps: ``(N, C, H, W)``.
        grid: ``(N, h, w, 2)``.
        padding_mode: ``'border'`` or ``'zeros'``.
    """
    batch, channels, height, width = maps.shape
    rows = maps.permute(0, 2, 3, 1).reshape(batch * height * width, channels)
    first = (torch.arange(batch, device=maps.device) * (height * width)).view(batch, 1, 1)
    columns, lines = (_neighbours(grid[..., i], size, padding_mode) for i, size in enumerate((width, height)))
    out = torch.zeros((), dtype=maps.dtype, device=maps.device)
    for line, line_weight in lines:
        for column, column_weight in columns:
            index = first + line * width + column
            values = rows.index_select(0, index.flatten())
            out = out + values * (line_weight * column_weight).reshape(-1, 1)
    return out.reshape(batch, grid.shape[1], grid.shape[2], channels).permute(0, 3, 1, 2)


def _neighbours(position: Tensor, size: int, padding_mode: str) -> list[tuple[Tensor, Tensor]]:
    """The two pixels around each point along an axis, and their weights; ``position`` is normalised."""
    last = position.new_ones(1) * size - 1  # a number would be taken for good by torch.export
    position = (position + 1) * (last + 1) / 2 - 0.5
    margin = 0 if padding_mode == 'border' else 1  # beyond a pixel outside there are zeros, too; and a huge number is no index
    position = torch.minimum(F.relu(position + margin), last + 2 * margin) - margin
    lower = position.floor()
    fraction = position - lower
    pairs = []
    for pixel, weight in ((lower, 1 - fraction), (lower + 1, fraction)):
        inside = torch.minimum(F.relu(pixel), last)
        if padding_mode == 'zeros':
            weight = weight * (pixel == inside).to(weight)
        pairs.append((inside.long().clamp(min=0), weight))  # of what is no number, too
    return pairs
