"""Draw the sampling points of a DySample for one image."""

import math
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.patches import Rectangle

from mmdysample.upsamplers import DySample

from .image_input import ImageInput, open_image
from .loaded_model import LoadedModel
from .picture import Picture, extent, interpolation_of
from .places import edge_and_flat
from .sampling_points import SamplingPoints, sampling_points
from .upsampler_calls import UpsamplerCall, choose_call, record_calls, upsampler_name

PANEL = 1.9  # width of a panel in inches
LOW = 'low-res. pixels'


def draw_sampling(
    loaded: LoadedModel,
    image: Optional[str] = None,
    index: int = 0,
    module: Optional[str] = None,
    pixels: Optional[Sequence[tuple[int, int]]] = None,
) -> Picture:
    """Draw the sampling points of a DySample for one image.

    In a notebook::

        from .loaded_model import load_model
        from .sampling import draw_sampling
        draw_sampling(load_model('configs/shapes/faster_rcnn_dysample_shapes.py', 'work_dirs/.../epoch_8.pth'), image='photo.jpg')

    Args:
        loaded: The model.
        image: An image file.
        index: Index of the image in the config's test set, if there is no file.
        module: Name of the DySample in the model; by default, the one with the finest map.
        pixels: Positions ``(x, y)`` in the image. For each, the sampling points of the low-resolution pixel at that position are drawn.
            By default, a strong edge and a flat place.

    Returns:
        Three maps: the image with these positions, the movement of all points, and the scope. Below, a row of panels for each position,
        one panel per group.

    Raises:
        ValueError: The model has no DySample, or none of that name; there is no such image; a position is outside of the image.
    """
    shown = open_image(loaded, image, index)
    with loaded.in_scope(), shown.named():
        call = choose_call(record_calls(loaded.model, shown.data), module, DySample)
    points = sampling_points(call.module, call.x)  # type: ignore[arg-type]
    stride = low_resolution_stride(shown, call)
    if pixels:
        chosen = {_inside(shown, pixel): '' for pixel in pixels}
    else:
        chosen = {place: name for name, place in edge_and_flat(shown.pixels, max(stride)).items()}

    groups = len(points.end)
    width = max(PANEL * groups, 10.0)
    row = width / groups + 0.5
    figure = Picture(figsize=(width, 3.9 + row * len(chosen)), layout='constrained')
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[3.9, row * len(chosen)])[:, 0]
    _draw_maps(above, shown, points, stride, list(chosen), call)
    state = 'trained' if loaded.is_trained(call.name) else 'untrained'
    height, length = call.x.shape[2:]
    s = call.scale_factor
    figure.suptitle(
        f'{loaded.title}\n{call.name}: {upsampler_name(call.module)}, {state}, {groups} groups, '
        f'{length}x{height} to {s * length}x{s * height}',
        fontsize='medium',
    )
    axes = below.subplots(len(chosen), groups, squeeze=False)
    for k, ((x, y), name) in enumerate(chosen.items()):
        _draw_pixel(axes[k], shown, points, stride, (x, y))
        label = f'{_letter(k)}: {f"{name}, " if name else ""}image pixel ({x}, {y})'
        axes[k, 0].set_ylabel(f'{label}\ny ({LOW})', fontsize='small')
    for ax in axes[-1]:
        ax.set_xlabel(f'x ({LOW})', fontsize='small')
    below.suptitle('circles: sampling points of bilinear interpolation; arrows: to the learned sampling points', fontsize='small')
    return figure


def low_resolution_stride(shown: ImageInput, call: UpsamplerCall) -> tuple[float, float]:
    """Return the pixels of the image file per pixel of the low-resolution map, ``(x, y)``."""
    return call.stride[0] / shown.scale[0], call.stride[1] / shown.scale[1]


def _inside(shown: ImageInput, pixel: tuple[int, int]) -> tuple[int, int]:
    height, width = shown.pixels.shape[:2]
    if not (0 <= pixel[0] < width and 0 <= pixel[1] < height):
        raise ValueError(f'--pixels {pixel[0]},{pixel[1]} is outside of {shown.name}, which has {width}x{height} pixels, counted from 0')
    return pixel


def _letter(k: int) -> str:
    return chr(ord('A') + k) if k < 26 else str(k + 1)


def _draw_maps(
    figure: SubFigure,
    shown: ImageInput,
    points: SamplingPoints,
    stride: tuple[float, float],
    chosen: Sequence[tuple[int, int]],
    call: UpsamplerCall,
) -> None:
    """Draw the image, the movement of all points, and the scope; the axes are in pixels of the image."""
    height, width = shown.pixels.shape[:2]
    s = call.scale_factor
    axes = figure.subplots(1, 3)
    axes[0].imshow(shown.pixels, extent=extent(shown.pixels), interpolation=interpolation_of(shown.pixels))
    for k, place in enumerate(chosen):
        low = np.floor((np.array(place) + 0.5) / stride) * stride
        axes[0].add_patch(Rectangle(tuple(low), *stride, fill=False, edgecolor='white', linewidth=2.4))
        axes[0].add_patch(Rectangle(tuple(low), *stride, fill=False, edgecolor='black', linewidth=1.2))
        under = low[1] < height / 5  # near the top, the letter would cover the title
        axes[0].annotate(
            _letter(k),
            low + np.array((stride[0] / 2, stride[1] * under)),
            xytext=(0, -18 if under else 10),
            arrowprops=dict(arrowstyle='-', color='white'),
            textcoords='offset points',
            ha='center',
            bbox=dict(boxstyle='round,pad=0.15', facecolor='white', linewidth=0.5),
            fontsize='small',
        )
    axes[0].set_title(f'{shown.name}, {width}x{height}', fontsize='small')

    fine = stride[0] / s, stride[1] / s
    # Crop the padding: it must affect neither the maps nor their colours and means.
    rows, columns = math.ceil(height / fine[1]), math.ceil(width / fine[0])
    distance, scope = points.distance[:, :rows, :columns], points.scope[:rows, :columns]
    _draw_heat(figure, axes[1], distance.mean(0), fine, f'{LOW}, mean of {len(points.end)} groups')
    axes[1].set_title(f'movement: mean {distance.mean():.2g}, largest {distance.max():.2g}', fontsize='small')
    module = call.module
    assert isinstance(module, DySample)
    if module.dyscope:
        _draw_heat(figure, axes[2], scope, fine, f'{LOW} per unit of offset, mean of groups')
        axes[2].set_title(f'dynamic scope: {scope.min():.2f} to {scope.max():.2f}', fontsize='small')
    else:
        text = f'static scope {module.scope_factor:g}\n{LOW}\nper unit of offset'
        axes[2].text(0.5, 0.5, text, transform=axes[2].transAxes, ha='center', va='center')
        axes[2].set(xticks=[], yticks=[], aspect=height / width)
        axes[2].set_title('scope', fontsize='small')
    for ax in axes[: 2 + module.dyscope]:
        ax.set(xlim=(0, width), ylim=(height, 0))
        ax.tick_params(labelsize='x-small')
        ax.set_xlabel('x (pixels of the image)', fontsize='small')
    axes[0].set_ylabel('y (pixels of the image)', fontsize='small')


def _draw_heat(figure: SubFigure, ax: Axes, heat: np.ndarray, fine: tuple[float, float], unit: str) -> None:
    image = ax.imshow(heat, extent=extent(heat, (1 / fine[0], 1 / fine[1])), cmap='viridis', interpolation='nearest')
    bar = figure.colorbar(image, ax=ax, shrink=0.8)
    bar.set_label(unit, fontsize='x-small')
    bar.ax.tick_params(labelsize='x-small')


def _draw_pixel(
    axes: Sequence[Axes], shown: ImageInput, points: SamplingPoints, stride: tuple[float, float], place: tuple[int, int]
) -> None:
    """Draw the sampling points of a low-resolution pixel, a panel for each group; the axes are in pixels of that map."""
    s = points.scale_factor
    column, row = ((np.array(place) + 0.5) / stride).astype(int)
    block = (slice(s * row, s * row + s), slice(s * column, s * column + s))
    start = points.start[block].reshape(-1, 2)
    ends = points.end[:, block[0], block[1]].reshape(len(points.end), -1, 2)
    middle = np.array((column, row)) + 0.5
    reach = max(1.0, float(np.abs(ends - middle).max()) + 0.3)  # half of each neighbour, or more if a point is further away
    low, high = middle - reach, middle + reach
    for group, (ax, end) in enumerate(zip(axes, ends)):
        ax.imshow(shown.pixels, extent=extent(shown.pixels, stride), interpolation='nearest', alpha=0.75)
        for line in range(int(np.floor(low.min())), int(np.ceil(high.max())) + 1):
            ax.axvline(line, color='white', linewidth=0.6, alpha=0.8)
            ax.axhline(line, color='white', linewidth=0.6, alpha=0.8)
        ax.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor='black', linewidth=1))
        arrows: dict[str, Any] = dict(angles='xy', scale_units='xy', scale=1, units='width', zorder=3)
        ax.quiver(*start.T, *(end - start).T, color=f'C{group}', width=0.013, **arrows)
        ax.scatter(start[:, 0], start[:, 1], s=22, facecolor='white', edgecolor='black', linewidth=0.8, zorder=4)
        ax.scatter(end[:, 0], end[:, 1], s=16, color=f'C{group}', edgecolor='white', linewidth=0.5, zorder=5)
        ax.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), aspect='equal')
        ax.locator_params(nbins=4, integer=True)
        ax.tick_params(labelsize='x-small', labelleft=group == 0)
        ax.set_title(f'group {group + 1}: moved {np.linalg.norm(end - start, axis=1).mean():.2g}', fontsize='small')
