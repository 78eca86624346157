"""Compute the sampling points of a DySample."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmdysample.upsamplers import DySample


class SamplingPoints(NamedTuple):
    """The sampling points of one upsampler for one image and their scope, in pixels of the upsampler's input."""

    start: np.ndarray  # (s*H, s*W, 2): the points of bilinear interpolation, (x, y)
    end: np.ndarray  # (g, s*H, s*W, 2): the points of each group
    scope: np.ndarray  # (s*H, s*W): movement per unit of offset, mean over groups and both coordinates

    scale_factor: int

    @property
    def distance(self) -> np.ndarray:
        """The distance from start to end, ``(g, s*H, s*W)``."""
        return np.linalg.norm(self.end - self.start, axis=-1)


@torch.no_grad()
def sampling_points(module: DySample, x: Tensor) -> SamplingPoints:
    """Compute the sampling points of a module for one input.

    Args:
        module: The upsampler.
        x: Its input, ``(1, C, H, W)``.

    Returns:
        The points.
    """
    _, _, height, width = x.shape
    s, g = module.scale_factor, module.groups
    y, x_ = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing='ij')
    centre = torch.stack((x_, y)).view(1, 2, 1, 1, 1, height, width)

    def shuffle(values: Tensor) -> Tensor:
        """Rearrange ``(1, 2, g, s, s, H, W)`` to ``(g, s*H, s*W, 2)``."""
        return values.permute(0, 2, 5, 3, 6, 4, 1).reshape(g, s * height, s * width, 2)

    def split(channels: Tensor) -> Tensor:
        return channels.cpu().float().view(1, 2, g, s, s, *channels.shape[2:])

    # The points of bilinear interpolation, independent of the module's own initial position.
    steps = (torch.arange(s) + 0.5) / s - 0.5
    grid_y, grid_x = torch.meshgrid(steps, steps, indexing='ij')
    grid = torch.stack((grid_x, grid_y)).view(1, 2, 1, s, s, 1, 1).expand(1, 2, g, s, s, 1, 1)
    return SamplingPoints(
        shuffle(grid + centre)[0].numpy(),
        shuffle(split(module.predict_offset(x)) + centre).numpy(),
        shuffle(split(module.predict_scope(x).contiguous())).mean((0, 3)).numpy(),
        s,
    )
