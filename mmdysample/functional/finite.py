"""Sampling points of pixels that are NaN or infinite."""

import torch
from torch import Tensor


def finite_or_centre(offset: Tensor) -> Tensor:
    """Return offsets with zero in place of NaN and infinity.

    A layer predicts NaN from a pixel that is NaN. Such a point samples the centre of its own pixel, so that NaN stays NaN. ``grid_sample``
    would sample a corner of the map and return a number.
    """
    return torch.where(offset.abs() < float('inf'), offset, 0)
