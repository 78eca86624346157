"""Read the forms in which COCO files give a mask."""

from math import isfinite
from typing import Any, Optional

import numpy as np

from .numbers import number

Polygon = list[float]


def is_polygon(value: Any) -> bool:
    """Return True for a list ``x, y, x, y, ...`` of at least three points."""
    if type(value) is not list or len(value) < 6 or len(value) % 2:
        return False
    try:
        return isfinite(sum(value))
    except TypeError:
        return False


def is_sound(segmentation: Any) -> bool:
    """Return True for a list of polygons or a run-length encoding, the forms that mmdet and pycocotools read."""
    if type(segmentation) is list:
        return bool(segmentation) and all(map(is_polygon, segmentation))
    return is_rle(segmentation)


def is_rle(segmentation: Any) -> bool:
    """Return True for a run-length encoding: ``counts``, a text or a list of integers, and ``size``, two integers."""
    if type(segmentation) is not dict:
        return False
    counts, size = segmentation.get('counts'), segmentation.get('size')
    runs = isinstance(counts, str) or (isinstance(counts, list) and {type(v) for v in counts} == {int} and min(counts) >= 0)
    return bool(counts) and runs and isinstance(size, list) and len(size) == 2 and {type(v) for v in size} == {int}


def pixels_of(counts: str | list[int]) -> int:
    """Return how many pixels a run-length encoding covers, the background among them; -1 for a text that ends within a number."""
    if isinstance(counts, list):
        return sum(counts)
    runs: list[int] = []
    value = bits = 0
    for code in (ord(character) - 48 for character in counts):  # five bits each, the lowest first, and one that says that more follow
        value |= (code & 31) << bits
        bits += 5
        if not code & 32:
            value -= (code & 16) >> 4 << bits  # the sign
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = bits = 0
    return -1 if bits else sum(runs)


def polygons_of(segmentation: Any) -> list[Polygon]:
    """Return the polygons of a segmentation, also if they stand alone, outside of a list, or are lists of points; empty without any."""
    if not isinstance(segmentation, list):
        return []
    if is_polygon(segmentation):
        return [segmentation]
    if all(map(_is_point, segmentation)):
        segmentation = [segmentation]
    flat = [[v for point in p for v in point] if isinstance(p, list) and all(map(_is_point, p)) else p for p in segmentation]
    read: list[Any] = [[number(v) for v in p] if isinstance(p, list) else p for p in flat]  # numbers may be text
    return [p for p in read if is_polygon(p)]


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


def mask_area(segmentation: Any) -> float:
    """Return the area of a mask in pixels; 0 if there is none."""
    if is_rle(segmentation):
        from pycocotools import mask as rle

        counts = segmentation['counts']
        return float(sum(counts[1::2]) if isinstance(counts, list) else rle.area(segmentation))
    area = 0.0
    for polygon in polygons_of(segmentation):
        x, y = np.array(polygon, dtype=np.float64).reshape(-1, 2).T
        area += abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2
    return float(area)


def mask_box(segmentation: Any) -> Optional[list[float]]:
    """Return the box of a mask: x, y, width, height; None if there is no mask."""
    if is_rle(segmentation):
        from pycocotools import mask as rle

        counts = segmentation['counts']
        encoded = rle.frPyObjects(segmentation, *segmentation['size']) if isinstance(counts, list) else segmentation
        return [float(v) for v in rle.toBbox(encoded)]
    points = np.array([v for polygon in polygons_of(segmentation) for v in polygon], dtype=np.float64).reshape(-1, 2)
    if not len(points):
        return None
    low, high = points.min(0), points.max(0)
    return [*low.tolist(), *(high - low).tolist()]
