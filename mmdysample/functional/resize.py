"""Nearest-neighbour interpolation within upsamplers."""

from torch import Tensor


def resize_nearest(x: Tensor, scale_factor: int) -> Tensor:
    """Repeat every pixel of a map ``(B, C, H, W)`` ``scale_factor`` times in both directions."""
    return repeat_each(repeat_each(x, scale_factor, 2), scale_factor, 3)


def repeat_each(x: Tensor, times: int, dim: int) -> Tensor:
    """Return what ``x.repeat_interleave(times, dim)`` returns, by operations that ONNX has in opset 12."""
    shape = list(x.shape)
    shape.insert(dim + 1, times)
    return x.unsqueeze(dim + 1).expand(shape).flatten(dim, dim + 1)
