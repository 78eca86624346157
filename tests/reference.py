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


def reassemble_loop(x: Tensor, weight: Tensor, scale_factor: int, groups: int = 1) -> Tensor:
    """As :func:`mmdysample.functional.reassemble`."""
    x, weight = x.double(), weight.double()
    _, channels, height, width = x.shape
    s = scale_factor
    k = math.isqrt(weight.shape[1] // groups)
    x, weight = x.unflatten(1, (groups, channels // groups)), weight.unflatten(1, (groups, k * k))
    pixels = []  # not an output that is written to in place: its backward pass would copy all of it for each value
    for row in range(s * height):
        for column in range(s * width):
            terms = [
                weight[:, :, n, row, column, None] * x[:, :, :, i, j]
                for n, (i, j) in neighbourhood(row // s, column // s, k, height, width)
            ]
            pixels.append(sum(terms).flatten(1))
    return torch.stack(pixels, 2).unflatten(2, (s * height, s * width))


def similarity_loop(x: Tensor, y: Tensor, kernel_size: int, scale_factor: int) -> Tensor:
    """As :func:`mmdysample.functional.similarity`."""
    x, y = x.double(), y.double()
    _, _, height, width = x.shape
    s = scale_factor
    out = torch.zeros(len(x), kernel_size**2, s * height, s * width, dtype=torch.float64)
    for row in range(s * height):
        for column in range(s * width):
            for n, (i, j) in neighbourhood(row // s, column // s, kernel_size, height, width):
                out[:, n, row, column] = (x[:, :, i, j] * y[:, :, row, column]).sum(1)
    return out


def neighbourhood(row: int, column: int, k: int, height: int, width: int):
    """The places around a pixel that lie on the map, each with its number in the kernel."""
    for n in range(k * k):
        i, j = row + n // k - k // 2, column + n % k - k // 2
        if 0 <= i < height and 0 <= j < width:
            yield n, (i, j)


def deformable_attention_loop(query, key, value, offset, scale_factor: int, groups: int, num_points: int) -> Tensor:
    """As :func:`mmdysample.functional.deformable_attention`."""
    query, key, value, offset = (t.double() for t in (query, key, value, offset))
    batch, channels, height, width = value.shape
    s, depth, share = scale_factor, key.shape[1] // groups, channels // groups
    points = offset.reshape(batch, groups, num_points, 2, s * height, s * width)
    out = torch.zeros(batch, channels, s * height, s * width, dtype=torch.float64)
    for b in range(batch):
        for g in range(groups):
            for row in range(s * height):
                for column in range(s * width):
                    places = [
                        (column // s + points[b, g, p, 0, row, column].item(), row // s + points[b, g, p, 1, row, column].item())
                        for p in range(num_points)
                    ]
                    keys = torch.stack([zero_padded_bilinear(key[b, g * depth : (g + 1) * depth], *place) for place in places])
                    values = torch.stack([zero_padded_bilinear(value[b, g * share : (g + 1) * share], *place) for place in places])
                    weights = (keys @ query[b, g * depth : (g + 1) * depth, row, column]).softmax(0)
                    out[b, g * share : (g + 1) * share, row, column] = weights @ values
    return out


def zero_padded_bilinear(maps: Tensor, x: float, y: float) -> Tensor:
    """The values of maps ``(C, H, W)`` at a point, in pixels from the centre of the first one; zero outside."""
    left, top = math.floor(x), math.floor(y)
    out = torch.zeros(len(maps), dtype=torch.float64)
    for i, wy in ((top, 1 - (y - top)), (top + 1, y - top)):
        for j, wx in ((left, 1 - (x - left)), (left + 1, x - left)):
            if 0 <= i < maps.shape[1] and 0 <= j < maps.shape[2]:
                out += wy * wx * maps[:, i, j]
    return out
