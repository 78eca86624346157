"""Attention to several bilinear samples of a map for each output pixel: their inner products with a query, and their weighted sum.

On CPU, a map is a table with one row per pixel for the sum, as in :mod:`~mmdysample.functional.rows`. ``P`` samples of four rows each are
then one sum of ``4*P`` rows, which ``embedding_bag`` adds up without writing a sample to memory.
"""

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import add
from typing import Any, NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from .bilinear import sample_bilinear
from .capture import captured, gathers_only, transformed
from .lean import lean
from .rows import index_dtype
from .second_order import differentiable_gradients

CHUNK = 4096  # output pixels
# Measured on CPU with 9 points: with 16 channels, sampling point by point takes half the time or less; with 64, it takes twice as long.
MIN_CHANNELS = 32


def score_samples(query: Tensor, key: Tensor, grid: Tensor, shift: Optional[Tensor] = None) -> Tensor:
    """Return the inner product of each output pixel of a query with its samples of a key, which is zero outside the map.

    Args:
        query: ``(N, D, h, w)``.
        key: ``(N, D, H, W)``.
        grid: ``(P, N, h, w, 2)``, as in :func:`sum_of_samples`.
        shift: ``(P, N, D)``, what is added to the samples of each point, or None.

    Returns:
        ``(N, P, h, w)``.
    """
    shifts = [None] * len(grid) if shift is None else shift.unbind(0)
    return torch.stack([lean(_score, query, key, points, added) for points, added in zip(grid, shifts)], dim=1)


def sum_of_samples(maps: Tensor, grid: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted sum of the samples of each output pixel, with zeros outside the maps.

    In training, the backward pass samples every point again, so that no samples are kept in memory.

    Args:
        maps: ``(N, C, H, W)``, float32 or wider.
        grid: ``(P, N, h, w, 2)``, the points in normalised coordinates, as for :func:`~mmdysample.functional.sample_bilinear`.
        weight: ``(N, P, h, w)``.

    Returns:
        ``(N, C, h, w)``.
    """
    if _rows_pay(maps):
        return _SumOfSamples.apply(maps, grid, weight)
    return _point_by_point(maps, grid, weight)


def _rows_pay(maps: Tensor) -> bool:
    # Zero times NaN or infinity is NaN, so such a pixel would spread to the points outside the map, which have rows of zero weight.
    if captured() or transformed() or gathers_only() or maps.device.type != 'cpu' or maps.shape[1] < MIN_CHANNELS:
        return False
    return maps.numel() > 0 and bool(maps.sum().isfinite())


def _point_by_point(maps: Tensor, grid: Tensor, weight: Tensor) -> Tensor:
    return reduce(add, (lean(_weigh, maps, points, share) for points, share in zip(grid, weight.unsqueeze(2).unbind(1))))


def _score(query: Tensor, key: Tensor, grid: Tensor, shift: Optional[Tensor]) -> Tensor:
    sampled = sample_bilinear(key, grid, padding_mode='zeros')
    return (query * (sampled if shift is None else sampled + shift[..., None, None])).sum(1)


def _weigh(maps: Tensor, grid: Tensor, weight: Tensor) -> Tensor:
    return sample_bilinear(maps, grid, padding_mode='zeros') * weight


class _Axis(NamedTuple):
    """The two pixels around each point along an axis, each ``(h*w, P, 2)``.

    Attributes:
        pixel: Their indices, within the map.
        weight: Their bilinear weights; zero outside the map.
        slope: The derivatives of the weights by the normalised coordinate.
    """

    pixel: Tensor
    weight: Tensor
    slope: Tensor


def _axis(coordinate: Tensor, size: int, integer: torch.dtype) -> _Axis:
    position = ((coordinate + 1) * size - 1) / 2
    near = position.clamp(-1, size)  # a huge number cannot be converted to an index
    lower = near.floor()
    fraction = near - lower
    pixels = torch.stack((lower, lower + 1), dim=-1)
    inside = (pixels >= 0) & (pixels < size)
    slope = (inside & (near == position).unsqueeze(-1)) * pixels.new_tensor((-size / 2, size / 2))
    weight = torch.stack((1 - fraction, fraction), dim=-1) * inside
    return _Axis(pixels.to(integer).clamp_(0, size - 1), weight, slope)


class _SumOfSamples(torch.autograd.Function):
    """:func:`sum_of_samples` by sums of rows, map by map. It keeps only its inputs for the backward pass."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, grid: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(maps, grid, weight)
        out = maps.new_empty(*maps.shape[:2], *weight.shape[2:])
        for i, x in enumerate(maps):
            table = _table(x)
            for lines in _chunks(weight.shape[2:]):
                index, rows, columns = _bags(x.shape, grid[:, i, lines])
                shares = _shares(rows, columns, weight[i, :, lines])
                target = out[i, :, lines]
                target.copy_(F.embedding_bag(index, table, per_sample_weights=shares, mode='sum').T.view(target.shape))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        maps, grid, weight = ctx.saved_tensors
        needed = ctx.needs_input_grad
        if torch.is_grad_enabled():
            return differentiable_gradients(_point_by_point, (maps, grid, weight), needed, grad)
        grads = [torch.empty_like(t) if need else None for t, need in zip((maps, grid, weight), needed)]
        for i, (x, share) in enumerate(zip(maps, weight)):
            index, rows, columns = _bags(x.shape, grid[:, i])
            shares, grad_rows = _shares(rows, columns, share), _table(grad[i])
            if grads[0] is not None:
                grads[0][i] = _scatter(index, grad_rows, shares, x.shape)
            if any(needed[1:]):
                by_row, by_column = _by_place(index, _table(x), shares, grad_rows, rows, columns)
                if grads[1] is not None:
                    slopes = ((by_column * columns.slope).sum(-1), (by_row * rows.slope).sum(-1))
                    grads[1][:, i] = (torch.stack(slopes, -1) * share.flatten(1).T.unsqueeze(-1)).transpose(0, 1).view(grid[:, i].shape)
                if grads[2] is not None:
                    grads[2][i] = (by_row * rows.weight).sum(-1).T.view(share.shape)
        return tuple(grads)


def _chunks(size: Sequence[int]) -> Iterator[slice]:
    """Yield lines of an output ``(h, w)`` of about ``CHUNK`` pixels, so that the indices of their rows stay in the cache."""
    height, width = size
    step = max(1, CHUNK // max(1, width))
    for start in range(0, height, step):
        yield slice(start, start + step)


def _table(x: Tensor) -> Tensor:
    """Return the pixels of a map ``(C, H, W)`` as rows, ``(H*W, C)``."""
    return x.flatten(1).T.contiguous()


def _bags(shape: Sequence[int], points: Tensor) -> tuple[Tensor, _Axis, _Axis]:
    """Return the rows that each output pixel reads, ``(h*w, P*4)``, and their places along both axes, from points ``(P, h, w, 2)``."""
    _, height, width = shape
    points = points.flatten(1, 2).transpose(0, 1)
    integer = index_dtype(max(2 * points.numel(), height * width))
    columns, rows = (_axis(points[..., i], size, integer) for i, size in enumerate((width, height)))
    return torch.add(columns.pixel.unsqueeze(-2), rows.pixel.unsqueeze(-1), alpha=width).flatten(1), rows, columns


def _shares(rows: _Axis, columns: _Axis, weight: Tensor) -> Tensor:
    """Return the weights of the rows that each output pixel reads, ``(h*w, P*4)``, from the weights of the points, ``(P, h, w)``."""
    return ((rows.weight * weight.flatten(1).T.unsqueeze(-1)).unsqueeze(-1) * columns.weight.unsqueeze(-2)).flatten(1)


def _scatter(index: Tensor, grad: Tensor, shares: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the gradient of a map: for each of its pixels, the weighted sum of the gradients of the output pixels that read it."""
    reads = index.shape[1]
    pixels, order = index.flatten().sort()
    starts = torch.searchsorted(pixels, torch.arange(shape[1] * shape[2], dtype=index.dtype))
    shares = shares.flatten()[order]
    return F.embedding_bag(order.div_(reads, rounding_mode='floor'), grad, starts, per_sample_weights=shares, mode='sum').T.view(*shape)


def _by_place(index: Tensor, table: Tensor, shares: Tensor, grad: Tensor, rows: _Axis, columns: _Axis) -> tuple[Tensor, Tensor]:
    """Return the gradients of the products of a point's weight with its weights along one axis, both ``(h*w, P, 2)``."""
    with torch.enable_grad():
        shares.requires_grad_()
        out = F.embedding_bag(index, table, per_sample_weights=shares, mode='sum')
        (by_share,) = torch.autograd.grad(out, shares, grad)
    by_share = by_share.view(*rows.weight.shape, 2)  # (h*w, P, row, column)
    return (by_share * columns.weight.unsqueeze(-2)).sum(-1), (by_share * rows.weight.unsqueeze(-1)).sum(-2)
