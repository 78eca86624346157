"""Attention of each output pixel to points around it, the operation of `LDA-AQU <https://arxiv.org/abs/2411.19585>`_.

Positions are those of ``align_corners=True``: the centres of the corner pixels of both maps coincide.
"""

from typing import Optional

import torch
from torch import Tensor

from .layout import not_a_view
from .point_attention import score_samples, sum_of_samples
from .resize import repeat_each


def local_attention(query: Tensor, key: Tensor, value: Tensor, offset: Tensor, bias: Optional[Tensor], groups: int, heads: int) -> Tensor:
    """Upsample a map by attention: each output pixel is a softmax-weighted sum of samples of the map around it.

    Args:
        query: ``(B, D, H, W)``, at the size of the output.
        key: ``(B, D, h, w)``.
        value: ``(B, C, h, w)``.
        offset: ``(B*g, P*2, H, W)``, the channels ordered as (point, y | x): the distance of each point from the output pixel, in output
            pixels. Keys and values are zero outside the map, and such points keep their weight.
        bias: ``(P, D)``, what is added to the keys of each point, or None.
        groups: The number of groups ``g`` of channels, of keys as well as values, that share points.
        heads: The number of heads ``n``. ``D`` and ``C`` are divisible by both numbers.

    Returns:
        ``(B, C, H, W)``, of the dtype of ``value``; positions, similarities and softmax are in float32 or wider.
    """
    (batch, depth, height, width), channels = query.shape, value.shape[1]
    dtype = torch.promote_types(value.dtype, torch.float32)
    # Channels of one group and one head are a block. Blocks are processed beside the batch.
    blocks = groups
    while blocks % heads:  # not math.lcm, which torch 2.6 cannot compile
        blocks += groups
    fold = lambda t: t.to(dtype).reshape(batch * blocks, t.shape[1] // blocks, *t.shape[2:])  # noqa: E731
    query, key, maps = fold(query), fold(key), fold(value)
    grid = repeat_each(_grid(offset.to(dtype), *value.shape[2:]), blocks // groups, 1)
    shift = None if bias is None else bias.to(dtype).view(-1, 1, blocks, depth // blocks).expand(-1, batch, -1, -1).flatten(1, 2)
    by_block = score_samples(query, key, grid, shift)
    scores = by_block.reshape(batch, heads, blocks // heads, len(grid), height, width).sum(2)
    weight = repeat_each((scores / (depth // heads) ** 0.5).softmax(2), blocks // heads, 1)
    out = sum_of_samples(maps, grid, weight.reshape(batch * blocks, len(grid), height, width))
    return not_a_view(out.reshape(batch, channels, height, width).to(value.dtype))


def _grid(offset: Tensor, height: int, width: int) -> Tensor:
    """Return the normalised coordinates of the points, ``(P, B*g, H, W, 2)``, in a map of the given size."""
    folded, channels, out_height, out_width = offset.shape
    points = offset.reshape(folded, channels // 2, 2, out_height, out_width).permute(2, 1, 0, 3, 4)
    axes = []
    for distance, size, out_size, shape in zip(points, (height, width), (out_height, out_width), ((-1, 1), (1, -1))):
        position = distance + torch.arange(out_size, device=offset.device, dtype=offset.dtype).view(shape)
        pixel = position * ((size - 1) / max(out_size - 1, 1))
        axes.append((2 * pixel + 1) / size - 1)
    return torch.stack(axes[::-1], dim=-1)
