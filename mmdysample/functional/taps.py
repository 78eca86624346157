"""Reassembly and its gradients, written out as one term for each tap, that is, for each of the ``k*k`` neighbours.

This form consists of PyTorch operations alone. It passes over memory ``k*k`` times, so it is slow; :mod:`mmdysample.functional.tiles`
computes the same as matrix products.
"""

from collections.abc import Iterator
from functools import reduce
from operator import add

import torch
import torch.nn.functional as F
from torch import Tensor


def _neighbours(x: Tensor, k: int) -> Iterator[Tensor]:
    """Yield the map shifted to each position of the neighbourhood, ``(B, C, H, 1, W, 1)``, row by row."""
    height, width = x.shape[2:]
    padded = F.pad(x, (k // 2,) * 4)
    for row in range(k):
        for column in range(k):
            yield padded[:, :, row : row + height, None, column : column + width, None]


def reassemble(x: Tensor, weight: Tensor, k: int, s: int) -> Tensor:
    """Return ``y``, as :func:`mmdysample.functional.tiles.reassemble` does."""
    batch, channels, height, width = x.shape
    weights = weight.reshape(batch, k * k, 1, height, s, width, s).unbind(1)
    out = reduce(add, (w * neighbour for w, neighbour in zip(weights, _neighbours(x, k))))
    return out.reshape(batch, channels, s * height, s * width)


def similarity(x: Tensor, y: Tensor, k: int, s: int) -> Tensor:
    """Return ``weight``, as :func:`mmdysample.functional.tiles.similarity` does."""
    batch, channels, height, width = x.shape
    y = y.reshape(batch, channels, height, s, width, s)
    out = torch.stack([(y * neighbour).sum(1) for neighbour in _neighbours(x, k)], dim=1)
    return out.reshape(batch, k * k, s * height, s * width)


def spread(y: Tensor, weight: Tensor, k: int, s: int) -> Tensor:
    """Return ``x``, as :func:`mmdysample.functional.tiles.spread` does."""
    batch, channels, height, width = y.shape[0], y.shape[1], y.shape[2] // s, y.shape[3] // s
    fine = y.reshape(batch, channels, height, s, width, s)
    weights = weight.reshape(batch, k * k, 1, height, s, width, s).unbind(1)
    padded = y.new_zeros(batch, channels, height + k - 1, width + k - 1)
    for tap, w in enumerate(weights):
        row, column = divmod(tap, k)
        padded[:, :, row : row + height, column : column + width] += (fine * w).sum((3, 5))
    return padded[:, :, k // 2 : k // 2 + height, k // 2 : k // 2 + width].contiguous()
