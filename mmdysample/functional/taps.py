"""Reassembly and its gradients, written out as one term for each row of the ``k x k`` neighbourhood.

This form consists of PyTorch operations alone. In PyTorch it is slower than :mod:`mmdysample.functional.tiles`, which computes the same
as larger matrix products. In onnxruntime and OpenVINO it takes a fifth of the time of one term for each of the ``k*k`` neighbours, which
passes over memory ``k*k`` times.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from operator import add

import torch
import torch.nn.functional as F
from torch import Tensor


def _rows(x: Tensor, k: int) -> Iterator[Tensor]:
    """Yield each row of the neighbourhoods of all pixels, ``(B, H, W, k, C)``, with zeros outside the map."""
    height, width = x.shape[2:]
    padded = F.pad(x, (k // 2,) * 4).permute(0, 2, 3, 1)
    for row in range(k):
        yield torch.stack([padded[:, row : row + height, column : column + width] for column in range(k)], dim=3)


def reassemble(x: Tensor, weight: Tensor, k: int, s: int) -> Tensor:
    """Return ``y``, as :func:`mmdysample.functional.tiles.reassemble` does."""
    batch, channels, height, width = x.shape
    weights = weight.reshape(batch, k, k, height, s, width, s).permute(1, 0, 3, 5, 4, 6, 2).reshape(k, batch, height, width, s * s, k)
    with _without_autocast(x):
        out = reduce(add, (w @ row for w, row in zip(weights.unbind(0), _rows(x, k))))
    return out.reshape(batch, height, width, s, s, channels).permute(0, 5, 1, 3, 2, 4).reshape(batch, channels, s * height, s * width)


def similarity(x: Tensor, y: Tensor, k: int, s: int) -> Tensor:
    """Return ``weight``, as :func:`mmdysample.functional.tiles.similarity` does."""
    batch, channels, height, width = x.shape
    fine = y.reshape(batch, channels, height, s, width, s).permute(0, 2, 4, 3, 5, 1).reshape(batch, height, width, s * s, channels)
    with _without_autocast(x):
        out = torch.cat([fine @ row.transpose(3, 4) for row in _rows(x, k)], dim=4)
    return out.reshape(batch, height, width, s, s, k * k).permute(0, 5, 1, 3, 2, 4).reshape(batch, k * k, s * height, s * width)


def _without_autocast(x: Tensor) -> AbstractContextManager:
    """Return a context in which matrix products keep the dtype of their factors."""
    # Meta tensors have no autocast. Dynamo of torch 2.6 cannot ask which devices have it.
    return nullcontext() if x.is_meta or not torch.is_autocast_enabled(x.device.type) else torch.autocast(x.device.type, enabled=False)


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
