"""Draw annotations or predictions over an image. Colours stand for classes, because text labels would cover each other."""

from collections.abc import Sequence
from typing import Any, Optional

import cv2
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.patches import Patch, Rectangle

from .contents import Contents, DepthMap, LabelMap, Objects
from .picture import extent, interpolation_of

ALPHA = 0.55
LEGEND = 24  # the most classes in a legend

Colours = np.ndarray  # (classes, 3), from 0 to 1


def class_colours(count: int, palette: Optional[Sequence[Sequence[int]]] = None) -> Colours:
    """Return a colour for each class.

    Args:
        count: Number of classes.
        palette: RGB colours from 0 to 255; by default, distinct colours.
    """
    if palette:
        return np.asarray(palette, float)[:, :3] / 255
    few = matplotlib.colormaps['tab10' if count <= 10 else 'tab20']
    if count <= few.N:
        return few(np.arange(count))[:, :3]
    # The golden ratio keeps neighbours in the list apart on the circle of hues.
    hues = np.arange(count) * 0.618034 % 1
    return matplotlib.colors.hsv_to_rgb(np.stack((hues, 0.5 + 0.4 * (np.arange(count) % 2), np.full(count, 0.9)), -1))


def draw_contents(ax: Axes, pixels: np.ndarray, contents: Optional[Contents], colours: Colours, depth: Optional[Normalize] = None) -> Any:
    """Draw an image with its annotations or predictions.

    Args:
        ax: The axes to draw in.
        pixels: The image, ``(h, w, 3)``, uint8.
        contents: The annotations or predictions; None for the image alone.
        colours: The colours of the classes.
        depth: The scale of depth.

    Returns:
        The drawn depth map, for a colour bar; otherwise None.
    """
    ax.set(xticks=[], yticks=[])
    if isinstance(contents, DepthMap):
        return ax.imshow(contents.metres, extent=extent(contents.metres), cmap='viridis_r', norm=depth)
    if isinstance(contents, LabelMap):
        pixels = _with_labels(pixels, contents, colours)
    elif isinstance(contents, Objects) and contents.masks is not None:
        for mask, label in zip(contents.masks, contents.labels):
            pixels = _with_labels(pixels, LabelMap(np.where(mask, label, -1), mask), colours)
    ax.imshow(pixels, extent=extent(pixels), interpolation=interpolation_of(pixels))
    if isinstance(contents, Objects):
        _draw_boxes(ax, contents, colours)
    return None


def legend_of(shown: Sequence[Optional[Contents]], classes: Sequence[str], colours: Colours) -> list[Patch]:
    """Return the handles for a legend of the classes that occur, at most ``LEGEND`` of them."""
    present = sorted(
        {int(label) for contents in shown if isinstance(contents, (Objects, LabelMap)) for label in np.unique(contents.labels)}
    )
    patches = [Patch(color=colours[label], label=classes[label]) for label in present if 0 <= label < len(classes)]
    if len(patches) > LEGEND:
        return [*patches[:LEGEND], Patch(alpha=0, label=f'and {len(patches) - LEGEND} more')]
    return patches


def _with_labels(pixels: np.ndarray, contents: LabelMap, colours: Colours) -> np.ndarray:
    """Colour the pixels of an image by their class, with a white line around each segment."""
    known = contents.labels >= 0
    out = pixels.astype(np.float32)
    # Draw over grey, so that the colours of the image are not mistaken for classes.
    out[known] = (1 - ALPHA) * out[known].mean(-1, keepdims=True) + ALPHA * 255 * colours[contents.labels[known]]
    segments = contents.segments.astype(np.int64)
    border = np.zeros(segments.shape, np.uint8)
    border[:, 1:] |= segments[:, 1:] != segments[:, :-1]
    border[1:] |= segments[1:] != segments[:-1]
    width = -(-max(border.shape) // 400)  # wide enough to be visible in a panel of a few hundred pixels
    out[cv2.dilate(border, np.ones((width, width), np.uint8)).astype(bool)] = 255
    return out.astype(np.uint8)


def _draw_boxes(ax: Axes, objects: Objects, colours: Colours) -> None:
    height = ax.get_ylim()[0]
    for k, (left, top, right, bottom) in enumerate(objects.boxes):
        colour = colours[objects.labels[k]]
        ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor='white', linewidth=2.2))
        ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.3))
        if objects.scores is not None:
            ax.text(
                left,
                max(top, 0.06 * height),
                f'{100 * objects.scores[k]:.0f}',
                fontsize=5,
                color='white',
                va='bottom',
                bbox=dict(boxstyle='square,pad=0.1', facecolor=colour, linewidth=0),
                clip_on=True,
            )
