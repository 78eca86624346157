"""Positional encoding of the pixels of a map by sines and cosines."""

from typing import Any

import torch
from torch import Tensor


def sine_positions(like: Tensor, temperature: float = 10000.0) -> Tensor:
    r"""Return the sinusoidal positional encoding of the pixels of a map, with separate channels for row and column.

    With :math:`\omega_k = T^{-k / (C/4)}` for :math:`k = 0, ..., C/4 - 1`, pixel :math:`(y, x)` has the channels
    :math:`\sin(y \omega), \cos(y \omega), \sin(x \omega), \cos(x \omega)`. mmdet's ``SinePositionalEncoding`` has the same frequencies, but
    it counts positions from one and interleaves sines and cosines, so the weights of RT-DETR do not fit it.

    Args:
        like: The map ``(B, C, H, W)``, with ``C`` divisible by 4. It gives the sizes, the device and the dtype.
        temperature: The base ``T`` of the frequencies.

    Returns:
        ``(1, H*W, C)``, the pixels row by row, of the dtype of the map. It is computed in float32 or wider.
    """
    channels, height, width = like.shape[1:]
    options: dict[str, Any] = dict(device=like.device, dtype=torch.promote_types(like.dtype, torch.float32))
    frequencies = temperature ** -(torch.arange(channels // 4, **options) / (channels // 4))
    rows = torch.arange(height, **options)[:, None] * frequencies
    columns = torch.arange(width, **options)[:, None] * frequencies
    by_row = torch.cat([rows.sin(), rows.cos()], dim=1)[:, None].expand(-1, width, -1)
    by_column = torch.cat([columns.sin(), columns.cos()], dim=1)[None].expand(height, -1, -1)
    return torch.cat([by_row, by_column], dim=2).reshape(1, height * width, channels).to(like.dtype)
