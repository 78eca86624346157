"""Check panoptic annotations in COCO's format, and their PNG files."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmdysample.terminal.progress import progress

from ..findings import Finding
from ..image_files import header, listing, spread
from .file import CocoFile, Entry

QUICK = 8  # PNG files that the quick check decodes
LONG = 500


def check_segments(file: CocoFile, folder: Path, used: list[Entry], full: bool) -> Iterator[Finding]:
    """Check the segments' ids, and that each image's PNG file holds just these.

    Args:
        file: The file, which was mended.
        folder: The folder of the PNG files.
        used: The images that will be loaded.
        full: Whether to decode all PNG files, or only a few.

    Yields:
        What is wrong.
    """
    annotations = file.content['annotations']
    bad = [s for s in file.objects() if type(s.get('id')) is not int or s['id'] <= 0]
    yield from file.found('error', 'segments whose id is no positive integer', 'it is R + 256 G + 65536 B of the PNG file', bad, 'id')
    doubled = [a for a in annotations if len({s.get('id') for s in a['segments_info']}) < len(a['segments_info'])]
    yield from file.found('error', 'annotations in which two segments have the same id', 'give each segment an id of its own', doubled)
    segments: dict = {}
    for annotation in annotations:
        segments.setdefault(annotation.get('image_id'), set()).update(s.get('id') for s in annotation['segments_info'])
    unlabelled = [i for i in used if i['id'] not in segments]
    yield from file.found('warning', 'images without an annotation', 'all of their pixels are unlabelled', unlabelled)
    # mmdet takes the image's name, whatever file_name of the annotation says.
    names = {i['id']: i['file_name'].replace('.jpg', '.png') for i in used}
    absent = [i for i in used if names[i['id']] not in listing(folder)]
    remedy = f'there is no {names[absent[0]["id"]]}: its name must be that of the image, with .png in place of .jpg' if absent else ''
    yield from file.found('error', f'images without a PNG file in {folder}', remedy, absent)
    gone = {i['id'] for i in absent}
    there = [i for i in used if i['id'] not in gone]
    yield from _check_pixels(file, folder, there if full else spread(there, QUICK), names, segments)


def _check_pixels(file: CocoFile, folder: Path, images: list[Entry], names: dict, segments: dict) -> Iterator[Finding]:
    broken, resized, grey, strange, lost, why = [], [], [], [], [], ''
    for image in progress(images, f'reading segments of {file.path.name}') if len(images) > LONG else images:
        path = folder / names[image['id']]
        try:
            found = header(path)
            ids = segment_ids(path)
        except ValueError as error:
            broken.append(image)
            why = why or str(error)
            continue
        if (found.width, found.height) != (image.get('width'), image.get('height')):
            resized.append(image)
        if found.mode not in ('RGB', 'RGBA', 'P'):
            grey.append(image)
            continue
        listed = segments.get(image['id'], set())
        if ids - listed - {0}:
            strange.append((image, min(ids - listed - {0})))
        if listed - ids:
            lost.append((image, min(listed - ids)))
    yield from file.found('error', 'images whose PNG file cannot be read', why, broken)
    yield from file.found('error', 'images whose PNG file has another size', 'it must be that of the image', resized)
    remedy = 'its colours must be the ids of the segments: R + 256 G + 65536 B'
    yield from file.found('error', 'images whose PNG file is grey', remedy, grey)
    remedy = 'is in no segments_info: such pixels are unlabelled'
    if strange:
        what = 'images whose PNG file has segments that the annotations lack'
        yield from file.found('warning', what, f'the id {strange[0][1]} {remedy}', [image for image, _ in strange])
    if lost:
        remedy = f'no pixel has the id {lost[0][1]}: that segment can be neither learned nor found'
        yield from file.found('warning', 'images whose PNG file lacks segments of the annotations', remedy, [image for image, _ in lost])


def segment_ids(path: Path) -> set[int]:
    """Return the ids in a PNG file of segments.

    Raises:
        ValueError: The file cannot be decoded.
    """
    import cv2

    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError(f'{path} cannot be decoded')
    blue, green, red = np.moveaxis(pixels.astype(np.int32), -1, 0)
    return set(np.unique(red + 256 * green + 65536 * blue).tolist())
