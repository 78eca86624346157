"""Deformable attention from a fine to a coarse map, the operation of `SAPA-D <https://arxiv.org/abs/2307.08198>`_."""

import torch
from torch import Tensor

from .layout import not_a_view
from .point_attention import score_samples, sum_of_samples


def deformable_attention(
    query: Tensor, key: Tensor, value: Tensor, offset: Tensor, scale_factor: int = 2, groups: int = 4, num_points: int = 9
) -> Tensor:
    """Upsample a map by deformable attention: each output pixel is a softmax-weighted sum of samples of the map.

    In training, the backward pass samples every point again, so that no samples are kept in memory.

    Args:
        query: ``(B, g*D, s*H, s*W)``, with ``D`` channels in each group.
        key: ``(B, g*D, H, W)``.
        value: ``(B, C, H, W)``; channels ``[i*C/g, (i+1)*C/g)`` are sampled at the points of group ``i``.
        offset: ``(B, g*P*2, s*H, s*W)``, the channels ordered as (group, point, x | y): the distance of each sampling point, in input
            pixels, from the centre of the input pixel that contains the output pixel. Keys and values are zero outside the map.
        scale_factor: The upsampling ratio ``s``.
        groups: The number of groups ``g``.
        num_points: The number of points ``P``.

    Returns:
        ``(B, C, s*H, s*W)``, of the dtype of ``value``; coordinates, similarities and softmax are in float32 or wider.

    Raises:
        ValueError: The shapes do not match, or the channels of ``value`` or ``key`` are not divisible by ``groups``.
    """
    batch, channels, height, width = value.shape
    s, depth = scale_factor, key.shape[1]
    if channels % groups or depth % groups:
        raise ValueError(f'channels of value and key must be divisible by groups, got {channels}, {depth}, {groups=}')
    fine = (s * height, s * width)
    expected = dict(query=(batch, depth, *fine), key=(batch, depth, height, width), offset=(batch, 2 * groups * num_points, *fine))
    for (name, shape), tensor in zip(expected.items(), (query, key, offset)):
        if tensor.shape != shape:
            raise ValueError(f'{name} must have the shape {shape} for a value of {tuple(value.shape)}, got {tuple(tensor.shape)}')
    dtype = torch.promote_types(value.dtype, torch.float32)
    fold = lambda t: t.to(dtype).reshape(batch * groups, t.shape[1] // groups, *t.shape[2:])  # noqa: E731
    query, key, maps = fold(query), fold(key), fold(value)
    grids = _grids(fold(offset), height, width, s, num_points)
    out = sum_of_samples(maps, grids, score_samples(query, key, grids).softmax(1))
    return not_a_view(out.reshape(batch, channels, s * height, s * width).to(value.dtype))


def _grids(offset: Tensor, height: int, width: int, s: int, num_points: int) -> Tensor:
    """Return the normalised coordinates of the points, ``(P, B*g, s*H, s*W, 2)``."""
    device, dtype = offset.device, offset.dtype
    x, y = ((torch.arange(s * size, device=device) // s).to(dtype) + 0.5 for size in (width, height))
    x, y = x * 2 / width - 1, y * 2 / height - 1
    centre = torch.stack((x.expand(s * height, s * width), y.unsqueeze(1).expand(s * height, s * width)))
    two = offset.new_full((1,), 2)
    pixel = torch.cat((two / width, two / height)).view(2, 1, 1)
    points = offset.reshape(offset.shape[0], num_points, 2, s * height, s * width)
    grid = torch.addcmul(centre, points, pixel)
    return grid.permute(1, 0, 3, 4, 2).contiguous()
