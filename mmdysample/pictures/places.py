"""Choose places in an image to look at."""

import math

import numpy as np
import torch
import torch.nn.functional as F


def edge_and_flat(pixels: np.ndarray, stride: float) -> dict[str, tuple[int, int]]:
    """Find the places where an image changes most and least.

    Args:
        pixels: ``(h, w, 3)``, uint8.
        stride: Size of a cell in pixels. The edge is the cell with the largest gradient, the flat place the middle of the 3x3 cells with
            the smallest.

    Returns:
        ``(x, y)`` of the centre of a cell, in pixels, for ``'edge'`` and ``'flat'``; or only ``'middle'``, the middle of the image, if it
        has fewer than 3x3 cells.
    """
    side = max(1, math.ceil(stride))
    height, width = pixels.shape[:2]
    rows, columns = height // side, width // side
    if min(rows, columns) < 3:
        return {'middle': (width // 2, height // 2)}
    grey = torch.from_numpy(pixels.mean(-1, dtype=np.float32))
    rise = torch.hypot(*torch.gradient(grey)) if min(grey.shape) > 1 else grey
    cells = F.avg_pool2d(rise[None], side)
    inner = cells[0, 1:-1, 1:-1]  # without the border, where objects are cut off
    around = F.avg_pool2d(cells, 3, stride=1)[0]

    def middle(index: torch.Tensor) -> tuple[int, int]:
        row, column = divmod(int(index), columns - 2)
        return round((column + 1.5) * side), round((row + 1.5) * side)

    return {'edge': middle(inner.argmax()), 'flat': middle(around.argmin())}
