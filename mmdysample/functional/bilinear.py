"""Bilinear sampling of feature maps: ``grid_sample``, and equivalents for devices and runtimes that lack it.

Points are in normalised coordinates, x before y; the map extends from -1 to 1 (``align_corners=False``).
"""

from functools import partial
from typing import Any, Optional

import torch
import torch.nn.functional as F
from packaging.version import Version
from torch import Tensor

from .capture import captured, deform_conv_only, forward_mode, gathers_only, transformed
from .deform_conv import sample_by_deform_conv
from .second_order import differentiable_gradients

PADDING_MODES = ('border', 'zeros')
#: Whether the gradients of ``grid_sample`` can be differentiated again.
TWICE_DIFFERENTIABLE = Version(torch.__version__) >= Version('2.12')


def sample_bilinear(maps: Tensor, grid: Tensor, padding_mode: str = 'border') -> Tensor:
    """Sample maps bilinearly, as :func:`torch.nn.functional.grid_sample` does, on any device.

    Args:
        maps: ``(N, C, H, W)``, any floating dtype.
        grid: ``(N, h, w, 2)``, of the dtype of ``maps``.
        padding_mode: The value outside the map. ``'border'`` takes the value of the nearest border pixel and passes no gradient to the
            point; ``'zeros'`` treats the pixels outside as zeros.

    Returns:
        ``(N, C, h, w)``, of the dtype of ``maps``.

    Raises:
        ValueError: ``padding_mode`` is neither ``'border'`` nor ``'zeros'``.
    """
    if padding_mode not in PADDING_MODES:
        raise ValueError(f"padding_mode must be 'border' or 'zeros', got {padding_mode!r}")
    if gathers_only() or forward_mode() or (transformed() and not TWICE_DIFFERENTIABLE):
        return sample_by_gathers(maps, grid, padding_mode)
    if deform_conv_only() and grid.shape[1] >= maps.shape[2] and grid.shape[2] >= maps.shape[3]:
        return sample_by_deform_conv(maps, grid, padding_mode)
    if has_no_deterministic_backward(maps.device) and torch.are_deterministic_algorithms_enabled():
        return sample_by_gathers(maps, grid, padding_mode)
    if padding_mode == 'border' and not pads_borders(maps.device):
        return sample_clamped(maps, grid)
    differentiated = torch.is_grad_enabled() and (maps.requires_grad or grid.requires_grad)
    if differentiated and not TWICE_DIFFERENTIABLE and not captured():
        return GridSample.apply(maps, grid, padding_mode)
    return F.grid_sample(maps, grid, mode='bilinear', padding_mode=padding_mode, align_corners=False)


def pads_borders(device: torch.device) -> bool:
    """Return True if ``grid_sample`` supports ``padding_mode='border'`` on a device."""
    # The native border mode is exact and slightly faster. Clamping the points first takes 42.7 instead of 41.9 ms (129.9 instead of
    # 129.2 ms with the backward pass) for a 1x256x120x120 map on a CPU, and its rounding changes outputs by up to 9e-5.
    return device.type != 'mps'


def has_no_deterministic_backward(device: torch.device) -> bool:
    """Return True if the backward pass of ``grid_sample`` raises under ``torch.use_deterministic_algorithms(True)`` on a device."""
    return device.type == 'cuda'


def sample_clamped(maps: Tensor, grid: Tensor) -> Tensor:
    """Sample with border padding by a ``grid_sample`` that supports only zero padding, as on MPS.

    Args:
        maps: ``(N, C, H, W)``.
        grid: ``(N, h, w, 2)``, as in :func:`sample_bilinear`.

    Returns:
        ``(N, C, h, w)``.
    """
    # Convert to align_corners=True, where the centres of the border pixels lie at exactly -1 and 1. Without an exact limit, rounding
    # could place a clamped point outside a border pixel, and the zeros there would enter the result.
    stretched = [grid[..., i] * (size / max(size - 1, 1)) for i, size in enumerate((maps.shape[3], maps.shape[2]))]
    # Use hardtanh instead of clamp: at exactly -1 and 1 its gradient is 0, as with border padding, while that of clamp is 1.
    inside = F.hardtanh(torch.stack(stretched, dim=-1))
    return F.grid_sample(maps, inside, mode='bilinear', padding_mode='zeros', align_corners=True)


class GridSample(torch.autograd.Function):
    """``grid_sample`` for torch before 2.12, where the second derivatives are those of :func:`sample_by_gathers`."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, grid: Tensor, padding_mode: str) -> Tensor:
        ctx.save_for_backward(maps, grid)
        ctx.padding_mode = padding_mode
        return F.grid_sample(maps, grid, mode='bilinear', padding_mode=padding_mode, align_corners=False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        needed = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():
            function = partial(sample_by_gathers, padding_mode=ctx.padding_mode)
            return *differentiable_gradients(function, ctx.saved_tensors, needed, grad), None
        numbers = 0, ('zeros', 'border').index(ctx.padding_mode)  # bilinear, and the padding mode, as aten counts them
        grads = torch.ops.aten.grid_sampler_2d_backward(grad, *ctx.saved_tensors, *numbers, False, list(needed))
        return *(g if need else None for g, need in zip(grads, needed)), None


def sample_by_gathers(maps: Tensor, grid: Tensor, padding_mode: str = 'border') -> Tensor:
    """Sample bilinearly by arithmetic and ``index_select``, which becomes a plain Gather in ONNX.

    All sizes may be dynamic in an export.

    Args:
        maps: ``(N, C, H, W)``.
        grid: ``(N, h, w, 2)``, as in :func:`sample_bilinear`.
        padding_mode: ``'border'`` or ``'zeros'``.

    Returns:
        ``(N, C, h, w)``.
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
    """Return the two pixels around each point along an axis, each as ``(index, weight)``; ``position`` is normalised."""
    last = position.new_ones(1) * size - 1  # a tensor, because torch.export would freeze a Python number as a constant
    position = (position + 1) * (last + 1) / 2 - 0.5
    # Limit the coordinates, because a huge one cannot be converted to an index. With zero padding, one pixel outside the map is far
    # enough: all values there and beyond are zero.
    margin = 0 if padding_mode == 'border' else 1
    zero = torch.zeros((), dtype=torch.long, device=position.device)
    position = torch.minimum(F.relu(position + margin), last + 2 * margin) - margin
    lower = position.floor()
    fraction = position - lower
    pairs = []
    for pixel, weight in ((lower, 1 - fraction), (lower + 1, fraction)):
        inside = torch.minimum(F.relu(pixel), last)
        if padding_mode == 'zeros':
            weight = weight * (pixel == inside).to(weight)
        # NaN becomes any integer. OpenVINO 2025.4 computes a Clip of int64 without a maximum wrongly, so both limits are given.
        pairs.append((torch.minimum(torch.maximum(inside.long(), zero), last.long()), weight))
    return pairs
