"""Interpolation within upsamplers, also of an empty batch, for which ``F.interpolate`` has no backward pass."""

import torch.nn.functional as F
from torch import Tensor


def resize_nearest(x: Tensor, scale_factor: int) -> Tensor:
    """Repeat every pixel of a map ``(B, C, H, W)`` ``scale_factor`` times in both directions."""
    return x.repeat_interleave(scale_factor, 2).repeat_interleave(scale_factor, 3)


def resize_bilinear(x: Tensor, height: int, width: int, align_corners: bool = False) -> Tensor:
    """Interpolate a map bilinearly.

    Args:
        x: ``(B, C, H, W)``.
        height: The height ``h`` of the result.
        width: The width ``w`` of the result.
        align_corners: As in :func:`torch.nn.functional.interpolate`; by default, pixels have half-pixel centres.

    Returns:
        ``(B, C, h, w)``.
    """
    if x.shape[0] == 0:
        return x.mean((2, 3), keepdim=True).expand(-1, -1, height, width)
    # By the size, because torch 2.6 cannot compile a scale factor with dynamic sizes.
    return F.interpolate(x, size=(height, width), mode='bilinear', align_corners=align_corners)
