"""Adaptive low-pass kernels and similarities of neighbours, as `FreqFusion <https://arxiv.org/abs/2408.12879>`_ uses them."""

import math
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

DISTANCE = 2  # in pixels, between a pixel and the neighbours that it is compared with


def hamming_kernel(kernel_size: int, like: Tensor) -> Tensor:
    """Return the outer product of two Hamming windows, ``(1, k*k, 1, 1)``, row by row; ``k`` is at least 2."""
    # Written out, because torch's capturing exporter of ONNX has no hamming_window.
    steps = torch.arange(kernel_size, dtype=like.dtype, device=like.device)
    window = 0.54 - 0.46 * torch.cos(2 * math.pi * steps / (kernel_size - 1))
    return torch.outer(window, window).reshape(1, -1, 1, 1)


def windowed_softmax(logits: Tensor, window: Optional[Tensor] = None) -> Tensor:
    """Return kernels that sum to one: the softmax over the channels, times a window, divided by its sum.

    Args:
        logits: ``(B, k*k, H, W)``.
        window: ``(1, k*k, 1, 1)``; None for all ones.

    Returns:
        ``(B, k*k, H, W)``, float32 or wider.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    # exp(logit) * window, divided by its sum, is the softmax of logit + log(window).
    return (logits if window is None else logits + window.to(logits.dtype).log()).softmax(1)


def neighbour_cosines(x: Tensor) -> Tensor:
    """Return the cosine similarities of each pixel with its eight neighbours at a distance of 2.

    Args:
        x: ``(B, C, H, W)``.

    Returns:
        ``(B, 8, H, W)``, of the dtype of ``x``, the neighbours row by row; 0 where the neighbour is outside the map.
    """
    height, width = x.shape[2:]
    unit = x.to(torch.promote_types(x.dtype, torch.float32))
    unit = unit / unit.norm(dim=1, keepdim=True).clamp(min=1e-8)
    padded = F.pad(unit, (DISTANCE,) * 4)
    places = [(row, column) for row in range(3) for column in range(3) if (row, column) != (1, 1)]
    return torch.stack(
        [
            (unit * padded[:, :, DISTANCE * row : DISTANCE * row + height, DISTANCE * column : DISTANCE * column + width]).sum(1)
            for row, column in places
        ],
        dim=1,
    ).to(x.dtype)
