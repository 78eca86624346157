"""The usual formulation of reassembly, to compare with: it unfolds the map into ``C x k*k x sH x sW`` values."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdysample.functional import tiles

Operation = Callable[[Tensor, Tensor, int, int], Tensor]


def unfold_reassemble(x: Tensor, weight: Tensor, k: int, s: int) -> Tensor:
    """Reassemble as it is usually written: unfold, repeat each pixel, multiply, sum.

    Args:
        x: The map, ``(B, C, H, W)``.
        weight: The kernels, ``(B, k*k, s*H, s*W)``.
        k: Kernel size.
        s: The upsampling ratio.
    """
    return (_patches(x, k, s) * weight.unsqueeze(1)).sum(2)


def unfold_similarity(x: Tensor, y: Tensor, k: int, s: int) -> Tensor:
    """Compute similarity as it is usually written: inner products of each pixel of ``y`` with the ``k*k`` pixels of ``x`` around it."""
    return (_patches(x, k, s) * y.unsqueeze(2)).sum(1)


def _patches(x: Tensor, k: int, s: int) -> Tensor:
    batch, channels, height, width = x.shape
    patches = F.unfold(x, k, padding=k // 2).view(batch, channels * k * k, height, width)
    return F.interpolate(patches, scale_factor=s, mode='nearest').view(batch, channels, k * k, s * height, s * width)


@contextmanager
def in_place_of_tiles(reassemble: Operation, similarity: Operation) -> Iterator[None]:
    """Replace the two operations of ``functional.tiles`` by other formulations."""
    ours = tiles.reassemble, tiles.similarity
    tiles.reassemble, tiles.similarity = reassemble, similarity  # type: ignore[assignment]
    try:
        yield
    finally:
        tiles.reassemble, tiles.similarity = ours


class Unfolding(nn.Module):
    """An upsampler that uses the unfold formulation."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Tensor:
        """Upsample as the module does."""
        with in_place_of_tiles(unfold_reassemble, unfold_similarity):
            return self.module(*inputs)


def reassembles(module: nn.Module, inputs: tuple[Tensor, ...], scale_factor: int = 2) -> bool:
    """Return True if an upsampler calls ``tiles.reassemble``, which has an unfold formulation.

    Args:
        module: The upsampler.
        inputs: A map and, for a guided upsampler, a guide. Only a corner of them is used.
        scale_factor: The upsampling ratio.
    """
    small = [tensor[:1, :, : 8 * scale, : 8 * scale] for tensor, scale in zip(inputs, (1, scale_factor))]
    called = []

    def spy(*args: Any) -> Tensor:
        called.append(True)
        return unfold_reassemble(*args)

    with in_place_of_tiles(spy, unfold_similarity), torch.no_grad():
        module(*small)
    return bool(called)
