"""Point sampling of DySample: `Learning to Upsample by Learning to Sample <https://arxiv.org/abs/2308.15085>`_.

An output pixel is one bilinear sample of the input (``X' = grid_sample(X, S)``), taken at a learned distance ``O`` from where the output
pixel lies on the grid ``G`` (``S = G + O``).

Letters: ``B`` batch, ``C`` channels, ``H, W`` size of the input map, ``s`` scale factor, ``g`` groups of channels that share offsets.

Coordinates, everywhere in this package: x before y; in pixels of the input map; half-pixel centres, so that the pixel in column ``j``
lies at ``x = j + 0.5`` and the map reaches from ``0`` to ``W``; ``align_corners=False``; a point outside the map takes the value of the
nearest border pixel.
"""

from typing import Optional

import torch
from torch import Tensor

from .bilinear import sample_bilinear
from .capture import captured
from .rows import rows_pay, sample_rows


def initial_position(scale_factor: int, groups: int) -> Tensor:
    """Where each output pixel lies, relative to the centre of the input pixel that it comes from ("bilinear initialisation").

    Args:
        scale_factor: The upsampling ratio ``s``.
        groups: The number of groups ``g``.

    Returns:
        ``(1, 2*g*s*s, 1, 1)``, float32, in input pixels, the channels ordered as (x | y, group, row, column).
    """
    steps = (torch.arange(scale_factor) - (scale_factor - 1) / 2) / scale_factor
    y, x = torch.meshgrid(steps, steps, indexing='ij')
    return torch.stack((x, y)).unsqueeze(1).expand(-1, groups, -1, -1).reshape(1, -1, 1, 1)


def sampling_offset(offset: Tensor, scope: Optional[Tensor] = None, position: Optional[Tensor] = None, scope_factor: float = 1.0) -> Tensor:
    """Turn what the layers predict into distances: ``position + scope_factor * offset``, or with a dynamic scope ``position + 2 *
    scope_factor * sigmoid(scope) * offset``: the paper's static and dynamic scope, there with a factor of 0.25.

    Args:
        offset: ``(B, 2*g*s*s, H, W)``, the output of the offset's layer.
        scope: The same shape, the output of the scope's layer; None for a static scope.
        position: Where the points are if the offset is zero, of a shape that broadcasts, as :func:`initial_position`; None for the centre.
        scope_factor: Of a static scope, the distance in input pixels per unit of offset; a dynamic one reaches twice as far.

    Returns:
        ``(B, 2*g*s*s, H, W)``, from the centre of the input pixel, in input pixels, in the dtype of ``offset`` or, if that is narrower, in
        float32: in float16 or bfloat16 even the initial position of scale 3 is inexact.
    """
    dtype = torch.promote_types(offset.dtype, torch.float32)
    offset = offset.to(dtype)
    start = offset.new_zeros(()) if position is None else position.to(dtype)
    if scope is None:
        return torch.add(start, offset, alpha=scope_factor)
    return torch.addcmul(start, offset, scope.to(dtype).sigmoid(), value=2 * scope_factor)


def sampling_grid(offset: Tensor, scale_factor: int, groups: int) -> Tensor:
    """Turn offsets into normalised coordinates for :func:`torch.nn.functional.grid_sample`.

    Args:
        offset: ``(B, 2*g*s*s, H, W)``, the distance of each sampling point from the centre of its input pixel, in input pixels, the
            channels ordered as (x | y, group, row, column).
        scale_factor: The upsampling ratio ``s``.
        groups: The number of groups ``g``.

    Returns:
        ``(B*g, s*H, s*W, 2)``, from -1 to 1 across the map.
    """
    batch, _, height, width = offset.shape
    s, device, dtype = scale_factor, offset.device, offset.dtype
    x = (2 * torch.arange(width, device=device, dtype=dtype) + 1) / width - 1
    y = (2 * torch.arange(height, device=device, dtype=dtype) + 1) / height - 1
    two = offset.new_full((1,), 2)
    # The s*s points of a pixel go to their places, and the groups beside the batch, in the strides of a view; the sum keeps them, and only
    # the one copy that brings x beside y moves anything (measured: a quarter to a sixth of the time of shuffling copies on CPU).
    points = offset.view(batch, 2, groups, s, s, height, width).permute(1, 0, 2, 5, 3, 6, 4)
    column = torch.addcmul(x.view(1, 1, 1, 1, width, 1), points[0], two / width)
    row = torch.addcmul(y.view(1, 1, height, 1, 1, 1), points[1], two / height)
    return torch.stack((column, row), dim=-1).view(batch * groups, s * height, s * width, 2)


def dysample(x: Tensor, offset: Tensor, scale_factor: int = 2, groups: int = 1) -> Tensor:
    """Upsample a map by sampling it bilinearly at given points.

    Args:
        x: ``(B, C, H, W)``, any floating dtype and memory format.
        offset: ``(B, 2*g*s*s, H, W)``, as in :func:`sampling_grid`. Coordinates are computed in float32, or in the dtype of ``x`` or
            ``offset`` where that is wider: a float16 coordinate on a map of 200 pixels is off by a tenth of a pixel.
        scale_factor: The upsampling ratio ``s``.
        groups: The number of groups ``g``; channels ``[i*C/g, (i+1)*C/g)`` are sampled at the points of group ``i``.

    Returns:
        ``(B, C, s*H, s*W)``, of the dtype of ``x``; in ``channels_last`` if ``x`` is in that on a CPU and nothing is differentiated.

    Raises:
        ValueError: ``C`` is not divisible by ``groups``, or ``offset`` has another shape than the one above.
    """
    check_shapes(x, offset, scale_factor, groups)
    batch, channels, height, width = x.shape
    dtype = torch.promote_types(torch.promote_types(x.dtype, offset.dtype), torch.float32)
    offset = offset.to(dtype)
    differentiated = torch.is_grad_enabled() and (x.requires_grad or offset.requires_grad)
    if not differentiated and not captured() and not torch._C._are_functorch_transforms_active() and rows_pay(x):
        return sample_rows(x.to(dtype), offset, scale_factor, groups).to(x.dtype)
    grid = sampling_grid(offset, scale_factor, groups)
    # The channel count is spelled out: -1 is ambiguous for an empty batch.
    maps = x.to(dtype).reshape(batch * groups, channels // groups, height, width)
    out = sample_bilinear(maps, grid)
    return out.reshape(batch, channels, scale_factor * height, scale_factor * width).to(x.dtype)


def check_shapes(x: Tensor, offset: Tensor, scale_factor: int, groups: int) -> None:
    """Check that a map can be sampled at some points.

    Raises:
        ValueError: As :func:`dysample`.
    """
    batch, channels, height, width = x.shape
    if channels % groups:
        raise ValueError(f'channels must be divisible by groups, got {channels=}, {groups=}')
    expected = (batch, 2 * groups * scale_factor**2, height, width)
    if offset.shape != expected:
        raise ValueError(f'offset must have the shape (B, 2*groups*scale_factor**2, H, W) = {expected}, got {tuple(offset.shape)}')
