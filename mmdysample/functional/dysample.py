"""Point sampling of DySample: `Learning to Upsample by Learning to Sample <https://arxiv.org/abs/2308.15085>`_.

Each output pixel is one bilinear sample of the input (``X' = grid_sample(X, S)``). The sampling point lies at a learned offset ``O`` from
the position of the output pixel on the grid ``G`` (``S = G + O``).

The letters are ``B`` for batch, ``C`` for channels, ``H, W`` for the size of the input map, ``s`` for the scale factor and ``g`` for the
number of groups of channels that share offsets.

Coordinates follow one convention everywhere in this package. They are in pixels of the input map, x before y. Pixels have half-pixel
centres (``align_corners=False``): the pixel in column ``j`` lies at ``x = j + 0.5``, and the map extends from ``0`` to ``W``. A point
outside the map takes the value of the nearest border pixel.
"""

from typing import Optional

import torch
from torch import Tensor

from .bilinear import sample_bilinear
from .capture import captured, transformed
from .finite import finite_or_centre
from .layout import not_a_view
from .rows import rows_pay, sample_rows


def initial_position(scale_factor: int, groups: int, device: Optional[torch.device] = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the position of each output pixel relative to the centre of its input pixel ("bilinear initialisation").

    Args:
        scale_factor: The upsampling ratio ``s``.
        groups: The number of groups ``g``.
        device: The device of the result; by default torch's default device.
        dtype: The dtype of the result.

    Returns:
        ``(1, 2*g*s*s, 1, 1)``, in input pixels, the channels ordered as (x | y, group, row, column).
    """
    # Computed in float64 on the CPU: float32 holds the thirds of scale 3 with an error of 1e-8.
    steps = (torch.arange(scale_factor, dtype=torch.float64, device='cpu') - (scale_factor - 1) / 2) / scale_factor
    y, x = torch.meshgrid(steps, steps, indexing='ij')
    position = torch.stack((x, y)).unsqueeze(1).expand(-1, groups, -1, -1).reshape(1, -1, 1, 1)
    return position.to(device or torch.get_default_device(), dtype)


def sampling_offset(offset: Tensor, scope: Optional[Tensor] = None, position: Optional[Tensor] = None, scope_factor: float = 1.0) -> Tensor:
    """Return the sampling points from the raw output of the offset and scope layers.

    The static scope is ``position + scope_factor * offset``, and the dynamic scope is
    ``position + 2 * scope_factor * sigmoid(scope) * offset``. The paper uses a ``scope_factor`` of 0.25 in both.

    Args:
        offset: ``(B, 2*g*s*s, H, W)``, the output of the offset layer.
        scope: The output of the scope layer, of the same shape; None for a static scope.
        position: The points for a zero offset, broadcast to the shape of ``offset``, such as :func:`initial_position`; None for the
            centre of the input pixel.
        scope_factor: The distance in input pixels per unit of offset for a static scope; a dynamic scope reaches up to twice as far.

    Returns:
        ``(B, 2*g*s*s, H, W)``, the distance of each sampling point from the centre of its input pixel, in input pixels. The dtype is that
        of ``offset``, but at least float32, because float16 and bfloat16 cannot represent even the initial positions of scale 3.
    """
    dtype = torch.promote_types(offset.dtype, torch.float32)
    offset = offset.to(dtype)
    start = offset.new_zeros(()) if position is None else position.to(dtype)
    if scope is None:
        return torch.add(start, offset, alpha=scope_factor)
    return torch.addcmul(start, offset, scope.to(dtype).sigmoid(), value=2 * scope_factor)


def sampling_grid(offset: Tensor, scale_factor: int, groups: int) -> Tensor:
    """Convert offsets to normalised coordinates for :func:`torch.nn.functional.grid_sample`.

    Args:
        offset: ``(B, 2*g*s*s, H, W)``, the distance of each sampling point from the centre of its input pixel, in input pixels, the
            channels ordered as (x | y, group, row, column).
        scale_factor: The upsampling ratio ``s``.
        groups: The number of groups ``g``.

    Returns:
        ``(B*g, s*H, s*W, 2)``, x before y, of the dtype of ``offset``; the map extends from -1 to 1.
    """
    batch, _, height, width = offset.shape
    s, device, dtype = scale_factor, offset.device, offset.dtype
    x = (2 * torch.arange(width, device=device, dtype=dtype) + 1) / width - 1
    y = (2 * torch.arange(height, device=device, dtype=dtype) + 1) / height - 1
    two = offset.new_full((1,), 2)
    # Arrange the s*s points of each pixel on the fine grid, and the groups beside the batch, by the strides of a view. The sums keep
    # these strides, so the stack of x and y is the only copy. On CPU this takes a sixth to a quarter of the time of shuffling by copies.
    points = finite_or_centre(offset).view(batch, 2, groups, s, s, height, width).permute(1, 0, 2, 5, 3, 6, 4)
    column = torch.addcmul(x.view(1, 1, 1, 1, width, 1), points[0], two / width)
    row = torch.addcmul(y.view(1, 1, height, 1, 1, 1), points[1], two / height)
    del points  # before the stack takes the same memory again
    return torch.stack((column, row), dim=-1).view(batch * groups, s * height, s * width, 2)


def dysample(x: Tensor, offset: Tensor, scale_factor: int = 2, groups: int = 1) -> Tensor:
    """Upsample a map by sampling it bilinearly at given points.

    Args:
        x: ``(B, C, H, W)``, any floating dtype and memory format.
        offset: ``(B, 2*g*s*s, H, W)``, as in :func:`sampling_grid`. Coordinates are computed in the widest dtype of ``x``, ``offset``
            and float32, because a float16 coordinate on a map of 200 pixels is off by a tenth of a pixel.
        scale_factor: The upsampling ratio ``s``.
        groups: The number of groups ``g``; channels ``[i*C/g, (i+1)*C/g)`` are sampled at the points of group ``i``.

    Returns:
        ``(B, C, s*H, s*W)``, of the dtype of ``x``. The output is ``channels_last`` if ``x`` is ``channels_last`` on a CPU and the call
        is neither differentiated, compiled, exported nor transformed by ``torch.func``.

    Raises:
        ValueError: ``C`` is not divisible by ``groups``, or ``offset`` does not have the shape above.
    """
    check_shapes(x, offset, scale_factor, groups)
    batch, channels, height, width = x.shape
    dtype = torch.promote_types(torch.promote_types(x.dtype, offset.dtype), torch.float32)
    offset = offset.to(dtype)
    differentiated = torch.is_grad_enabled() and (x.requires_grad or offset.requires_grad)
    if not differentiated and not captured() and not transformed() and rows_pay(x):
        return not_a_view(sample_rows(x.to(dtype), offset, scale_factor, groups).to(x.dtype))
    grid = sampling_grid(offset, scale_factor, groups)
    # Name the number of channels, because reshape cannot infer a -1 for an empty batch.
    maps = x.to(dtype).reshape(batch * groups, channels // groups, height, width)
    out = sample_bilinear(maps, grid)
    return not_a_view(out.reshape(batch, channels, scale_factor * height, scale_factor * width).to(x.dtype))


def check_shapes(x: Tensor, offset: Tensor, scale_factor: int, groups: int) -> None:
    """Check that the shapes of a map and its offsets match.

    Raises:
        ValueError: ``C`` is not divisible by ``groups``, or ``offset`` is not ``(B, 2*g*s*s, H, W)``.
    """
    batch, channels, height, width = x.shape
    if channels % groups:
        raise ValueError(f'channels must be divisible by groups, got {channels=}, {groups=}')
    expected = (batch, 2 * groups * scale_factor**2, height, width)
    if offset.shape != expected:
        raise ValueError(f'offset must have the shape (B, 2*groups*scale_factor**2, H, W) = {expected}, got {tuple(offset.shape)}')
