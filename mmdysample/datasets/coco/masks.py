"""Mend and check the masks of COCO annotations, where a config trains or evaluates masks."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ..findings import Finding, Level
from ..image_files import spread
from .file import CocoFile, Entry
from .segmentation import is_polygon, is_sound, mask_area, mask_box, pixels_of, polygons_of

QUICK = 5000  # masks whose geometry the quick check looks at
TEXTS = 1000  # masks whose run lengths, written as text, the quick check adds up
RARE = 1e-4  # a share of objects without a usable mask that is tolerated
MANY = 0.01  # a share of masks outside of their boxes that is tolerated


def mend_masks(file: CocoFile) -> Iterator[Finding]:
    """Mend the form of masks, and make objects without a mask neither objects nor background.

    mmdet fails at the first object without a mask. Such an object becomes a crowd with its box as its mask: training and evaluation ignore
    crowds.

    Yields:
        What was mended or is left out, or an error if no object has a mask.
    """
    objects = file.objects()
    other_form: list[Entry] = []
    partial: list[Entry] = []
    lost: list[Entry] = []
    for a in objects:
        given: Any = a.get('segmentation')
        if is_sound(given):
            continue
        polygons = polygons_of(given)
        if not polygons:
            lost.append(a)
            continue
        (partial if any(map(is_polygon, given)) else other_form).append(a)
        a['segmentation'] = polygons
    if lost and len(lost) == len(objects):
        remedy = 'masks cannot be learned or evaluated: give them, or use a config without masks, such as faster_rcnn_dysample.py'
        yield from file.found('error', 'objects without a segmentation, which are all', remedy, lost, 'segmentation')
        return
    what = 'masks that are a polygon outside of a list, or lists of points'
    yield from file.found('mended', what, 'they are read as lists of polygons x, y, x, y, ...', other_form)
    what = 'objects with a polygon that is no list of at least three points x, y, x, y, ...'
    if len(partial) > RARE * len(objects):
        yield from file.found('warning', what, 'that polygon is left out', partial)
    what = 'objects without a usable segmentation'
    remedy = 'they are ignored, neither objects nor background: give them polygons of at least three points, or an RLE'
    ignored = [a for a in lost if not a['iscrowd']]
    if len(ignored) > RARE * len(objects):
        yield from file.found('warning', what, remedy, ignored, 'segmentation')
    for a in lost:
        x, y, w, h = a['bbox']
        a['iscrowd'], a['segmentation'] = 1, [[x, y, x + w, y, x + w, y + h, x, y + h]]


def check_masks(file: CocoFile, full: bool, polygons_only: bool) -> Iterator[Finding]:
    """Check the sizes of run-length encodings, and whether masks lie in their boxes.

    Args:
        file: The file, whose masks were mended.
        full: Whether to look at the geometry, and at run lengths that are text, of all masks.
        polygons_only: Whether the config takes polygons only (``poly2mask=False``).

    Yields:
        What is wrong.
    """
    objects = [a for a in file.objects() if not a['iscrowd']]
    encoded = [a for a in file.objects() if type(a.get('segmentation')) is dict]
    sizes = {image['id']: [image.get('height'), image.get('width')] for image in file.content['images']}
    wrong = [a for a in encoded if a['image_id'] in sizes and a['segmentation']['size'] != sizes[a['image_id']]]
    remedy = 'size is height, width, and must be that of the image'
    yield from file.found('error', 'run-length encoded masks of another size than their image', remedy, wrong, 'segmentation')
    # pycocotools decodes a text whose counts add up to less into whatever the memory holds.
    texts = [a for a in encoded if isinstance(a['segmentation']['counts'], str)]
    looked_at = {id(a) for a in (texts if full else spread(texts, TEXTS))}
    runs = [a for a in encoded if id(a) in looked_at or isinstance(a['segmentation']['counts'], list)]
    short = [a for a in runs if pixels_of(a['segmentation']['counts']) != np.prod(a['segmentation']['size'])]
    yield from file.found('error', 'run-length encoded masks whose counts do not add up to their size', 'encode them anew', short)
    if polygons_only:
        what = 'masks in run-length encoding, which poly2mask=False ignores'
        remedy = 'set poly2mask=True in LoadAnnotations of the pipeline'
        ignored = [a for a in objects if type(a['segmentation']) is dict]
        yield from file.found('error' if len(ignored) == len(objects) else 'warning', what, remedy, ignored)
    strange = {id(a) for a in (*wrong, *short)}
    yield from _check_extents(file, [a for a in objects if id(a) not in strange], full)


def check_unused_masks(file: CocoFile, full: bool) -> Iterator[Finding]:
    """Check boxes by masks that the config does not use: warn if most of them lie elsewhere."""
    objects = file.objects()
    masked = [a for a in (objects if full else spread(objects, QUICK)) if not a['iscrowd'] and is_sound(a.get('segmentation'))]
    for finding in _check_extents(file, masked, full):
        if finding.level == 'error':
            yield replace(finding, level='warning')


def _check_extents(file: CocoFile, objects: list[Entry], full: bool) -> Iterator[Finding]:
    """Yield an error if most masks have no area or lie outside of their boxes, and a warning if some do."""
    looked_at = objects if full else spread(objects, QUICK)
    flat = [a for a in looked_at if not mask_area(a['segmentation'])]
    if len(flat) > MANY * len(looked_at):
        level: Level = 'error' if len(flat) > len(looked_at) / 2 else 'warning'
        remedy = 'no pixel is theirs: outline the objects, as polygons with an area'
        yield from file.found(level, f'masks of {len(looked_at)} looked at without an area, such as lines', remedy, flat, 'segmentation')
    apart = [a for a in looked_at if not _fits(a)]
    if len(apart) > MANY * len(looked_at):
        level = 'error' if len(apart) > len(looked_at) / 2 else 'warning'
        what = f'masks of {len(looked_at)} looked at whose extent is not that of the box'
        yield from file.found(level, what, 'both are in pixels of the image: compare', apart, 'bbox')


def _fits(a: Entry) -> bool:
    """Return True if the mask's extent and the box overlap by at least half of their union, or if both are tiny."""
    (x, y, w, h), extent = a['bbox'], mask_box(a['segmentation'])
    if extent is None:
        return False
    left, top, width, height = extent
    overlap = max(0, min(x + w, left + width) - max(x, left)) * max(0, min(y + h, top + height) - max(y, top))
    union = w * h + width * height - overlap
    return overlap >= union / 2 or max(w, h, width, height) < 8
