"""DySample's sampling, one output value at a time, in float64: slow, and written without the operations that it checks."""

import math

import torch
from torch import Tensor


def dysample_loop(x: Tensor, offset: Tensor, scale_factor: int, groups: int) -> Tensor:
    """As :func:`mmdysample.functional.dysample`."""
    x, offset = x.double(), offset.double()
    batch, channels, height, width = x.shape
    s = scale_factor
    points = offset.reshape(batch, 2, groups, s, s, height, width)
    out = torch.zeros(batch, channels, s * height, s * width, dtype=torch.float64)
    for b in range(batch):
        for c in range(channels):
            g = c // (channels // groups)
            for row in range(s * height):
                for column in range(s * width):
                    (i, di), (j, dj) = divmod(row, s), divmod(column, s)
                    px = j + 0.5 + points[b, 0, g, di, dj, i, j].item()
                    py = i + 0.5 + points[b, 1, g, di, dj, i, j].item()
                    out[b, c, row, column] = bilinear_at(x[b, c], px, py)
    return out


def bilinear_at(plane: Tensor, px: float, py: float) -> float:
    """The value of a map at a point, in pixels with half-pixel centres; outside, that of the nearest border pixel."""
    height, width = plane.shape
    px = min(max(px - 0.5, 0.0), width - 1.0)
    py = min(max(py - 0.5, 0.0), height - 1.0)
    left, top = math.floor(px), math.floor(py)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    fx, fy = px - left, py - top
    upper = (1 - fx) * plane[top, left] + fx * plane[top, right]
    lower = (1 - fx) * plane[bottom, left] + fx * plane[bottom, right]
    return ((1 - fy) * upper + fy * lower).item()
