"""Check the boxes of COCO annotations."""

from collections.abc import Iterator

import numpy as np

from ..findings import Finding, Level
from .file import CocoFile

RARE = 1e-4  # a share of objects that is tolerated: COCO itself has some boxes less than a pixel wide
MANY = 0.01  # a share of objects listed twice that is tolerated: COCO has some
SLACK = 1.5  # pixels beyond the image that come from rounding
MOST = 0.99


def check_boxes(file: CocoFile) -> Iterator[Finding]:
    """Check that boxes are x, y, width and height in pixels, within their images.

    Yields:
        What is wrong. If the boxes seem to be given in another form, only this.
    """
    objects = file.objects()
    if not objects:
        return
    boxes, sizes = file.boxes, file.sizes
    (x, y, w, h), (width, height) = boxes.T, sizes.T
    wrong_form = _other_form(boxes, sizes)
    if wrong_form:
        yield Finding('error', file.path, *wrong_form, len(objects), f'{file.name(objects[0])}, bbox: {objects[0]["bbox"]}')
        return

    def found(level: Level, chosen: np.ndarray, what: str, remedy: str) -> Iterator[Finding]:
        yield from file.found(level, what, remedy, [objects[i] for i in np.flatnonzero(chosen)], 'bbox')

    negative = (w < 0) | (h < 0)
    yield from found('error', negative, 'boxes with a negative width or height', 'bbox is x, y, width, height: mend or remove them')
    thin = ((w < 1) | (h < 1)) & ~negative
    if thin.sum() > RARE * len(objects):
        remedy = 'training leaves these objects out, and evaluation counts them as missed: mend or remove them'
        yield from found('warning', thin, 'boxes less than a pixel wide or high', remedy)
    outside = ((x >= width) | (y >= height) | (x + w <= 0) | (y + h <= 0)) & ~negative & ~thin
    remedy = 'training leaves these objects out, and evaluation counts them as missed: mend or remove them'
    yield from found('warning', outside, 'boxes outside of their image', remedy)
    beyond = ((x < -SLACK) | (y < -SLACK) | (x + w > width + SLACK) | (y + h > height + SLACK)) & ~negative & ~thin & ~outside
    if beyond.sum() > RARE * len(objects):
        remedy = 'bbox is x, y, width, height in pixels of the image: compare'
        yield from found('warning', beyond, 'boxes that reach beyond their image', remedy)
    area = np.array([a['area'] for a in objects], dtype=np.float64)
    strange = ((area > 2 * w * h + 16) | ((area < 0.5) & (w * h >= 100))) & ~negative & ~thin & ~outside
    if strange.sum() > RARE * len(objects):
        remedy = 'the AP of small, medium and large objects is computed from area, in pixels of the image: remove it, and it is computed'
        yield from found('warning', strange, 'areas that cannot be those of the boxes', remedy)
    yield from _check_doubles(file)


def _check_doubles(file: CocoFile) -> Iterator[Finding]:
    """Check that no object is listed twice."""
    objects = file.objects()
    # One number for each object, which differs unless image, class and box are the same: much faster than comparing rows.
    numbers = np.fromiter((hash((a['image_id'], a['category_id'], *a['bbox'])) for a in objects), np.int64, len(objects))
    first = np.zeros(len(objects), bool)
    first[np.unique(numbers, return_index=True)[1]] = True
    if (~first).sum() > MANY * len(objects):
        remedy = 'evaluation counts the second as missed: remove it'
        yield from file.found('warning', 'objects that are listed twice', remedy, [objects[i] for i in np.flatnonzero(~first)], 'bbox')


def _other_form(boxes: np.ndarray, sizes: np.ndarray) -> tuple[str, str] | None:
    """Return what the boxes seem to be if they are not x, y, width and height in pixels, and the remedy."""
    (x, y, w, h), (width, height) = boxes.T, sizes.T
    if (boxes <= 1.001).all(1).mean() > MOST and boxes.any() and np.nanmin(sizes, initial=np.inf) > 2:
        return 'boxes between 0 and 1, as fractions of the image', 'multiply them by the width and height of the image'
    with np.errstate(invalid='ignore'):
        beyond = (x + w > width + SLACK) | (y + h > height + SLACK)
        corners = (w > x) & (h > y) & (w <= width + SLACK) & (h <= height + SLACK)
        centres = (x >= w / 2 - SLACK) & (y >= h / 2 - SLACK) & (x + w / 2 <= width + SLACK) & (y + h / 2 <= height + SLACK)
    known = np.isfinite(sizes).all(1)
    if not known.any() or beyond[known].mean() <= 0.1:
        return None
    if corners[known].mean() > MOST:
        what = f'boxes that seem to be corners x1, y1, x2, y2: as x, y, width, height, {beyond.sum()} of them reach beyond their image'
        return what, 'write x, y, width, height'
    if centres[known].mean() > MOST:
        what = f'boxes that seem to begin with their centre: as x, y, width, height, {beyond.sum()} of them reach beyond their image'
        return what, 'write the upper left corner, width and height'
    return None
