"""Where a DySample looks: its sampling points over the image."""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from mmdysample.upsamplers import DySample


class SamplingPoints(NamedTuple):
    """The sampling points of one upsampler for one image."""

    name: str  # of the module
    start: np.ndarray  # (s*H, s*W, 2): where bilinear interpolation would sample, x before y, in input pixels
    end: np.ndarray  # (g, s*H, s*W, 2): where each group samples
    size: tuple[int, int]  # (H, W) of the upsampler's input


def record_inputs(model: nn.Module) -> dict[str, Tensor]:
    """Keep the first image's input of every DySample in the model's first forward, by the module's name."""
    seen: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, DySample):
            module.register_forward_pre_hook(partial(_keep, seen, name))
    return seen


def _keep(seen: dict[str, Tensor], name: str, _: nn.Module, inputs: tuple[Tensor]) -> None:
    seen.setdefault(name, inputs[0][:1])


@torch.no_grad()
def sampling_points(name: str, module: DySample, x: Tensor) -> SamplingPoints:
    """Compute where a module samples.

    Args:
        name: Name of the module.
        module: The upsampler.
        x: Its input, ``(1, C, H, W)``.

    Returns:
        The points.
    """
    _, _, height, width = x.shape
    s, g = module.scale_factor, module.groups
    y, x_ = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing='ij')
    centre = torch.stack((x_, y)).view(1, 2, 1, 1, 1, height, width)

    def to_map(offset: Tensor) -> np.ndarray:
        points = offset.cpu().float().view(1, 2, g, s, s, *offset.shape[2:]) + centre
        return points.permute(0, 2, 5, 3, 6, 4, 1).reshape(g, s * height, s * width, 2).numpy()

    return SamplingPoints(name, to_map(module.init_pos)[0], to_map(module.predict_offset(x)), (height, width))


def draw_sampling_points(
    ax: Axes, image: np.ndarray, points: SamplingPoints, centre: tuple[float, float], padded: tuple[int, int], window: int = 8
) -> None:
    """Draw the points of each group around a place in the image.

    Args:
        ax: Where to draw.
        image: ``(h, w, 3)``, uint8, RGB: the network's input before padding.
        points: The points.
        centre: ``(x, y)`` in image pixels: the middle of what is shown.
        padded: Height and width of the network's input with its padding, which the map covers.
        window: Height and width of what is shown, in input pixels of the upsampler.
    """
    stride = np.array((padded[1] / points.size[1], padded[0] / points.size[0]))
    # The image's pixel j covers j to j + 1 here, as coordinates do everywhere in this package.
    ax.imshow(image, extent=(0, image.shape[1], image.shape[0], 0), interpolation='nearest')
    span = np.minimum(window * stride, image.shape[1::-1])
    low = np.clip(np.array(centre) - span / 2, 0, np.array(image.shape[1::-1]) - span)
    high = low + span
    start = points.start * stride
    shown = ((start > low) & (start < high)).all(-1)
    for group, end in enumerate(points.end * stride):
        colour = f'C{group}'
        delta = (end - start)[shown]
        ax.quiver(*start[shown].T, *delta.T, angles='xy', scale_units='xy', scale=1, color=colour, width=0.002, headwidth=0)
        ax.scatter(end[shown][:, 0], end[shown][:, 1], s=9, color=colour, linewidths=0, label=f'group {group}')
    ax.scatter(start[shown][:, 0], start[shown][:, 1], s=5, color='white', edgecolors='black', linewidths=0.3, label='bilinear')
    ax.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), xticks=[], yticks=[])
    ax.legend(loc='upper left', bbox_to_anchor=(1.01, 1), fontsize='small', frameon=False)
    distance = np.linalg.norm(points.end - points.start, axis=-1)
    ax.set_title(f'{points.name}: points move {distance.mean():.2f} pixels on average, {distance.max():.2f} at most', fontsize='small')
