"""Kernel-based upsampling: every output pixel is a weighted sum over the neighbourhood of the input pixel that contains it.

Let ``s`` be the scale factor, ``k`` the odd kernel size and ``N(i)`` the ``k x k`` neighbourhood of input pixel ``i``, with zeros outside
the map. `CARAFE <https://arxiv.org/abs/1905.02188>`_, `FADE <https://arxiv.org/abs/2207.10392>`_,
`SAPA <https://arxiv.org/abs/2209.12866>`_ and `A2U <https://arxiv.org/abs/2011.14288>`_ are built on two operations::

    reassemble:  y[o] = sum over n of weight[n, o] * x[n],   n in N(o // s)
    similarity:  weight[n, o] = sum over channels of x[n] * y[o]

Both can be compiled, exported, differentiated twice and transformed by ``torch.func``. Neither builds the ``C x k*k x sH x sW``
tensor that unfolding would build (1.5 GB in float32 for a 256x120x120 map at x2 with ``k = 5``).
"""

import torch
from torch import Tensor

from . import tiles
from .capture import exporting, transformed
from .layout import not_a_view
from .taps import reassemble as _reassemble_by_taps
from .taps import similarity as _similarity_by_taps


def reassemble(x: Tensor, weight: Tensor, scale_factor: int = 2, groups: int = 1) -> Tensor:
    """Upsample a map by a weighted sum over each pixel's neighbourhood.

    Args:
        x: ``(B, C, H, W)``, any floating dtype and memory format.
        weight: ``(B, g*k*k, s*H, s*W)``, the channels ordered as (group, row, column of the neighbourhood). It is cast to the dtype of
            ``x``.
        scale_factor: The upsampling ratio ``s``.
        groups: The number of groups ``g``; channels ``[i*C/g, (i+1)*C/g)`` are weighted by group ``i``.

    Returns:
        ``(B, C, s*H, s*W)``, of the dtype of ``x``.

    Raises:
        ValueError: ``C`` is not divisible by ``groups``, or ``weight`` does not have the shape above with an odd ``k``.
    """
    batch, channels, height, width = x.shape
    s = scale_factor
    if groups < 1 or channels % groups:
        raise ValueError(f'channels must be divisible by groups, got {channels=}, {groups=}')
    k = 1
    while groups * k * k < weight.shape[1]:  # not math.isqrt, which torch 2.6 cannot compile for dynamic sizes
        k += 2
    expected = (batch, groups * k * k, s * height, s * width)
    if weight.shape != expected:
        raise ValueError(
            f'weight must have the shape (B, groups*k*k, scale_factor*H, scale_factor*W) with odd k for a map {tuple(x.shape)} with '
            f'{scale_factor=}, {groups=}, got {tuple(weight.shape)}'
        )
    weight = weight.to(x.dtype).reshape(batch * groups, k * k, s * height, s * width)
    maps = x.reshape(batch * groups, channels // groups, height, width)
    out = (_reassemble_by_taps if _by_taps(x) else tiles.reassemble)(maps, weight, k, s)
    return not_a_view(out.reshape(batch, channels, s * height, s * width))


def similarity(x: Tensor, y: Tensor, kernel_size: int, scale_factor: int = 2) -> Tensor:
    """Return the inner products of each pixel of a fine map with the pixels of its neighbourhood in a coarse map.

    Args:
        x: ``(B, C, H, W)``, the coarse map.
        y: ``(B, C, s*H, s*W)``, the fine map.
        kernel_size: The odd size ``k`` of the neighbourhood.
        scale_factor: The ratio ``s`` of the sizes.

    Returns:
        ``(B, k*k, s*H, s*W)``, float32 or wider, the channels ordered as (row, column of the neighbourhood). The product is zero where
        the neighbour lies outside the map.

    Raises:
        ValueError: The shapes do not match, or ``kernel_size`` is even.
    """
    batch, channels, height, width = x.shape
    expected = (batch, channels, scale_factor * height, scale_factor * width)
    if kernel_size % 2 == 0:
        raise ValueError(f'kernel_size must be odd, got {kernel_size}')
    if y.shape != expected:
        raise ValueError(f'the fine map must have the shape (B, C, scale_factor*H, scale_factor*W) = {expected}, got {tuple(y.shape)}')
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    x, y = x.to(dtype), y.to(dtype)
    return (_similarity_by_taps if _by_taps(x) else tiles.similarity)(x, y, kernel_size, scale_factor)


def _by_taps(x: Tensor) -> bool:
    """Return True if the sums should be written out tap by tap.

    An exporter and ``torch.func`` need this form, because they do not know the operators of :mod:`~mmdysample.functional.tiles`. A meta
    tensor has no memory, so it uses this form at no cost.
    """
    return exporting() or transformed() or x.is_meta
