"""Pixel shuffle that also supports an empty batch."""

import torch.nn.functional as F
from torch import Tensor


def pixel_shuffle(x: Tensor, scale_factor: int) -> Tensor:
    """Rearrange channels into pixels as :func:`torch.nn.functional.pixel_shuffle` does, whose backward pass fails for an empty batch.

    Args:
        x: ``(B, C*s*s, H, W)``, the channels ordered as (channel, row, column).
        scale_factor: The ratio ``s``.

    Returns:
        ``(B, C, s*H, s*W)``.
    """
    batch, channels, height, width = x.shape
    if batch == 0:
        return x.reshape(0, channels // scale_factor**2, scale_factor * height, scale_factor * width)
    return F.pixel_shuffle(x, scale_factor)
