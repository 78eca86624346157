"""Point sampling of DySample: `Learning to Upsample by Learning to Sample <https://arxiv.org/abs/2308.15085>`_.

An output pixel is one bilinear sample of the input (``X' = grid_sample(X, S)``), taken at a learned distance ``O`` from where the output
pixel lies on the grid ``G`` (``S = G + O``).

Letters: ``B`` batch, ``C`` channels, ``H, W`` size of the input map, ``s`` scale factor, ``g`` groups of channels that share offsets.

Coordinates, everywhere in this package: x before y; in pixels of the input map; half-pixel centres, so that the pixel in column ``j``
lies at ``x = j + 0.5`` and the map reaches from ``0`` to ``W``; ``align_corners=False``; a point outside the map takes the value of the
nearest border pixel.
"""

import torch
from torch import Tensor

from .bilinear import sample_bilinear


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
    centre = torch.stack((x.expand(height, width), y.unsqueeze(1).expand(height, width)))
    two = offset.new_full((1,), 2)
    pixel = torch.cat((two / width, two / height))

    offset = offset.view(batch, 2, groups * s * s, height, width)
    grid = torch.addcmul(centre.view(1, 2, 1, height, width), offset, pixel.view(1, 2, 1, 1, 1))
    # One copy both shuffles the s*s points of a pixel into place and brings the groups beside the batch; a second one brings x beside y,
    # which grid_sample reads faster, above all in its backward pass. Both in one are slower (measured on CPU).
    grid = grid.view(batch, 2, groups, s, s, height, width).permute(0, 2, 1, 5, 3, 6, 4)
    return grid.reshape(batch * groups, 2, s * height, s * width).permute(0, 2, 3, 1).contiguous()


def dysample(x: Tensor, offset: Tensor, scale_factor: int = 2, groups: int = 1) -> Tensor:
    """Upsample a map by sampling it bilinearly at given points.

    Args:
        x: ``(B, C, H, W)``, any floating dtype and memory format.
        offset: ``(B, 2*g*s*s, H, W)``, as in :func:`sampling_grid`. Coordinates are computed in float32, or in the dtype of ``x`` or
            ``offset`` where that is wider: a float16 coordinate on a map of 200 pixels is off by a tenth of a pixel.
        scale_factor: The upsampling ratio ``s``.
        groups: The number of groups ``g``; channels ``[i*C/g, (i+1)*C/g)`` are sampled at the points of group ``i``.

    Returns:
        ``(B, C, s*H, s*W)``, of the dtype of ``x``.

    Raises:
        ValueError: ``C`` is not divisible by ``groups``, or ``offset`` has another shape than the one above.
    """
    batch, channels, height, width = x.shape
    if channels % groups:
        raise ValueError(f'channels must be divisible by groups, got {channels=}, {groups=}')
    expected = (batch, 2 * groups * scale_factor**2, height, width)
    if offset.shape != expected:
        raise ValueError(f'offset must have the shape (B, 2*groups*scale_factor**2, H, W) = {expected}, got {tuple(offset.shape)}')

    dtype = torch.promote_types(torch.promote_types(x.dtype, offset.dtype), torch.float32)
    grid = sampling_grid(offset.to(dtype), scale_factor, groups)
    # The channel count is spelled out: -1 is ambiguous for an empty batch.
    maps = x.to(dtype).reshape(batch * groups, channels // groups, height, width)
    out = sample_bilinear(maps, grid)
    return out.reshape(batch, channels, scale_factor * height, scale_factor * width).to(x.dtype)
