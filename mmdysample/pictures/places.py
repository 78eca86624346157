"""Places in an image that are worth a look."""

import math

import numpy as np
import torch
import torch.nn.functional as F


def edge_and_flat(pixels: np.ndarray, stride: float) -> dict[str, tuple[int, int]]:
    """Find where an image changes most and least.

    Args:
        pixels: ``(h, w, 3)``, uint8.
        stride: Height and width of a cell, in pixels: the steepest cell is the edge, the middle of the 3x3 flattest the flat place.

    Returns:
        ``(x, y)`` of the middle of a cell by ``'edge'`` and ``'flat'``; the middle of the image alone, where it has less than 3x3 cells.
    """
    side = max(1, math.ceil(stride))
    height, width = pixels.shape[:2]
    rows, columns = height // side, width // side
    if min(rows, columns) < 3:
        return {'middle': (width // 2, height // 2)}
    grey = torch.from_numpy(pixels.mean(-1, dtype=np.float32))
    rise = torch.hypot(*torch.gradient(grey)) if min(grey.shape) > 1 else grey
    cells = F.avg_pool2d(rise[None], side)
    inner = cells[0, 1:-1, 1:-1]  # what stands at the border is cut off by it
    around = F.avg_pool2d(cells, 3, stride=1)[0]

    def middle(index: torch.Tensor) -> tuple[int, int]:
        row, column = divmod(int(index), columns - 2)
        return round((column + 1.5) * side), round((row + 1.5) * side)

    return {'edge': middle(inner.argmax()), 'flat': middle(around.argmin())}
