"""Mend the entries of a COCO file in memory, where it is clear what they mean."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..findings import Finding
from .file import CocoFile, Entry, boxes_of
from .numbers import mend_ids, number
from .segmentation import mask_area, mask_box

RARE = 1e-4  # a share of objects without an area that is tolerated: COCO itself may have some
FLAGS = {0: 0, 1: 1, '0': 0, '1': 1, 'true': 1, 'false': 0, None: 0}  # True == 1 and False == 0 are among them


def mend(file: CocoFile) -> Iterator[Finding]:
    """Mend ids, crowd flags, boxes and areas.

    What cannot be mended is reported and taken out of the content, so that the other checks can go on.

    Yields:
        What was mended, and what cannot be.
    """
    images, objects = file.content['images'], file.objects()
    yield from mend_ids(file.path, 'image ids', images, objects if not file.panoptic else file.content['annotations'], 'image_id')
    yield from _drop(file, 'images', 'images without an id', [i for i in images if i.get('id') is None])
    yield from _mend_entries(file)
    lost = [a for a in file.objects() if a.get('image_id') is None or a.get('category_id') is None]
    yield from _drop(file, 'objects', 'objects without image_id or category_id', lost)
    if not file.panoptic:
        yield from _mend_annotation_ids(file)
    yield from _mend_crowds(file)
    yield from _mend_boxes(file)
    yield from _mend_areas(file)


def _drop(file: CocoFile, kind: str, what: str, entries: list[Entry], key: str = '') -> Iterator[Finding]:
    """Report entries as an error, and take them out of the content."""
    yield from file.found('error', what, 'they cannot be used: mend or remove them', entries, key)
    if not entries:
        return
    gone = set(map(id, entries))
    if kind == 'images':
        file.content['images'] = [image for image in file.content['images'] if id(image) not in gone]
    elif not file.panoptic:
        file.content['annotations'] = [a for a in file.content['annotations'] if id(a) not in gone]
    else:
        for annotation in file.content['annotations']:
            annotation['segments_info'] = [s for s in annotation['segments_info'] if id(s) not in gone]


def _mend_entries(file: CocoFile) -> Iterator[Finding]:
    """Leave out the second of two equal entries of an image. Other images with the same id cannot be told apart."""
    first: dict[Any, Entry] = {}
    twice = [i for i in file.content['images'] if first.setdefault(i['id'], i) is not i]
    if not twice:
        return
    equal = [i for i in twice if i['file_name'] == first[i['id']]['file_name']]
    yield from file.found('mended', 'images that are listed twice, with the same id and file_name', 'one is enough', equal, 'id')
    other = [i for i in twice if i['file_name'] != first[i['id']]['file_name']]
    remedy = 'give each image an id of its own, and its objects this image_id'
    yield from file.found('error', 'images with the id of another one', remedy, other, 'id')
    gone = set(map(id, twice))
    file.content['images'] = [i for i in file.content['images'] if id(i) not in gone]


def _mend_annotation_ids(file: CocoFile) -> Iterator[Finding]:
    """Number the annotations from 1 unless each has an integer of its own other than 0, which pycocotools takes for "not matched"."""
    annotations = file.content['annotations']
    ids = [a.get('id') for a in annotations]
    if {type(number_) for number_ in ids} <= {int} and 0 not in (taken := set(ids)) and len(taken) == len(ids):
        return
    times = Counter(ids)
    odd = [a for a, number_ in zip(annotations, ids) if type(number_) is not int or number_ == 0 or times[number_] > 1]
    what = 'annotations whose id is 0, missing, no integer or not unique'
    yield from file.found('mended', what, 'all are numbered anew from 1', odd, 'id')
    for i, annotation in enumerate(annotations, 1):
        annotation['id'] = i


def _mend_crowds(file: CocoFile) -> Iterator[Finding]:
    objects = file.objects()
    odd = [a for a in objects if a.get('iscrowd', '') not in (0, 1)]
    missing = [a for a in odd if a.get('iscrowd') is None]
    text = [a for a in odd if isinstance(a.get('iscrowd'), str) and a['iscrowd'].lower() in FLAGS]
    yield from file.found('mended', 'objects without iscrowd', 'it is taken as 0', missing)
    yield from file.found('mended', 'objects whose iscrowd is text', 'it is read as a number', text, 'iscrowd')
    for a in (*missing, *text):
        value = a.get('iscrowd')
        a['iscrowd'] = FLAGS[value.lower() if isinstance(value, str) else value]
    wrong = [a for a in odd if a['iscrowd'] not in (0, 1)]
    yield from _drop(file, 'objects', 'objects whose iscrowd is neither 0 nor 1', wrong, 'iscrowd')


def _mend_boxes(file: CocoFile) -> Iterator[Finding]:
    objects = file.objects()
    missing = [a for a in objects if not a.get('bbox')]
    if missing:
        boxes = [(a, mask_box(a.get('segmentation'))) for a in missing]
        yield from file.found('mended', 'objects without bbox', 'it is that of the mask', [a for a, box in boxes if box])
        for a, box in boxes:
            a['bbox'] = box
        objects = [a for a in objects if a['bbox']]
        yield from _drop(file, 'objects', 'objects without bbox', [a for a, box in boxes if not box])
    kinds = {type(a['bbox']) for a in objects} | {type(v) for a in objects if type(a['bbox']) is list for v in a['bbox']}
    if not kinds <= {list, int, float}:
        text = []
        for a in objects:
            if isinstance(a['bbox'], list) and not {type(v) for v in a['bbox']} <= {int, float}:
                read = [number(v) for v in a['bbox']]
                if None not in read:
                    text.append(a)
                    a['bbox'] = read
        yield from file.found('mended', 'boxes with numbers as text', 'they are read as numbers', text)
    wrong = [a for a in objects if not _is_box(a['bbox'])]
    yield from _drop(file, 'objects', 'boxes that are no list of four numbers: x, y, width, height', wrong, 'bbox')
    objects = file.objects()
    finite = np.isfinite(boxes_of(objects)).all(1)
    yield from _drop(file, 'objects', 'boxes with NaN or infinity', [objects[i] for i in np.flatnonzero(~finite)], 'bbox')


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and {type(v) for v in box} <= {int, float}


def _mend_areas(file: CocoFile) -> Iterator[Finding]:
    """Compute areas that are missing or not positive; mmdet leaves out an object without an area, even if it has a box."""
    objects = file.objects()
    odd = [a for a in objects if not _is_area(a.get('area'))]
    text = [a for a in odd if _is_area(number(a.get('area')))]
    yield from file.found('mended', 'areas written as text', 'they are read as numbers', text, 'area')
    for a in text:
        a['area'] = number(a['area'])
    computed = [a for a in odd if not _is_area(a.get('area')) and min(a['bbox'][2:]) > 0]
    if len(computed) > RARE * len(objects) or any(a.get('area') != 0 for a in computed):
        yield from file.found('mended', 'objects without a positive area', 'it is that of the mask or of the box', computed, 'area')
        for a in computed:
            a['area'] = mask_area(a.get('segmentation')) or a['bbox'][2] * a['bbox'][3]
    for a in odd:
        if type(a.get('area')) not in (int, float):
            a['area'] = 0  # of boxes without a size


def _is_area(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < np.inf
