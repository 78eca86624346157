"""Choose a part of an image to draw large, by the truth alone."""

from typing import NamedTuple

import cv2
import numpy as np


class Window(NamedTuple):
    """A square part of an image, in pixels."""

    top: int
    left: int
    size: int


def busiest_window(mask: np.ndarray, size: int) -> tuple[int, Window]:
    """Return the window with the most pixels of a mask, and their number; of equal ones, the first.

    Args:
        mask: ``(H, W)``, bool.
        size: Height and width of the window, at most those of the mask.
    """
    sums = cv2.integral(mask.astype(np.uint8))
    inside = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    top, left = np.unravel_index(np.argmax(inside), inside.shape)
    return int(inside[top, left]), Window(int(top), int(left), size)
