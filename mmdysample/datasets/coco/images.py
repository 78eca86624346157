"""Mend and check the sizes and files of the images of COCO annotations."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Optional, TypeVar

import numpy as np

from mmdysample.terminal.progress import progress

from ..findings import Finding, Level
from ..image_files import LOOK, Header, check_pixels, header, spread
from .file import CocoFile, Entry
from .names import is_there
from .numbers import integer

T = TypeVar('T')
QUICK = 200  # headers that the quick check reads, evenly spread
DEEP = 20  # images with 16 bits that the quick check decodes
LONG = 2000  # headers from which their reading is shown by a progress bar
RARE = 0.01  # a share of images that is tolerated
FORMATS = ('JPEG', 'PNG', 'BMP', 'TIFF', 'WEBP', 'PPM', 'MPO', 'JPEG2000')  # that every build of OpenCV reads
BRIGHT = 2**14  # 16-bit images whose values stay below become at most 63 of 255


def mend_sizes(file: CocoFile, folder: Path, turned: bool) -> Iterator[Finding]:
    """Make the width and height of each image integers, and read those that are missing from the image.

    Args:
        file: The file, changed in place.
        folder: The folder of the images.
        turned: Whether the loader turns images as their EXIF data says.

    Yields:
        What was mended, and what cannot be.
    """
    odd = [i for i in file.content['images'] if not (_is_size(i.get('width')) and _is_size(i.get('height')))]
    text = [i for i in odd if _is_size(integer(i.get('width'))) and _is_size(integer(i.get('height')))]
    yield from file.found('mended', 'images whose width or height is no integer', 'it is read as one', text, 'width')
    for image in text:
        image['width'], image['height'] = integer(image['width']), integer(image['height'])
    read, unknown = [], []
    odd = [i for i in odd if not (_is_size(i.get('width')) and _is_size(i.get('height')))]
    for image, found in _shown(_read(odd, folder), len(odd), 'reading sizes of images'):
        if isinstance(found, Header):
            image['width'], image['height'] = loaded_size(found, turned)
            file.measured.add(id(image))
            read.append(image)
        else:
            unknown.append(image)
            image['width'] = image['height'] = None
    yield from file.found('mended', 'images without width or height', 'they are taken from the image', read)
    yield from file.found('error', 'images without width or height, which cannot be read from the image either', 'give them', unknown)


def _is_size(value: Any) -> bool:
    return type(value) is int and value > 0


def _shown(images: Iterable[T], count: int, label: str) -> Iterable[T]:
    return progress(images, label, count) if count >= LONG else images


def _read(images: list[Entry], folder: Path, decode: bool = False) -> Iterator[tuple[Entry, Optional[Header | str]]]:
    """Yield images with their headers, or why they have none, or None if there is no such file."""

    def read(image: Entry) -> Optional[Header | str]:
        if not image['file_name'] or not is_there(image['file_name'], folder):
            return None
        path = folder / image['file_name']
        try:
            if decode:
                check_pixels(path)
            return header(path)
        except ValueError as error:
            return str(error)

    if not decode:
        yield from ((image, read(image)) for image in images)
        return
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside of Python's lock
        yield from zip(images, pool.map(read, images))


def loaded_size(found: Header, turned: bool) -> tuple[int, int]:
    """Return the width and height of an image as a loader returns it."""
    return (found.width, found.height) if turned or not found.rotated else (found.height, found.width)


def check_files(file: CocoFile, folder: Path, used: list[Entry], turned: bool, full: bool) -> Iterator[Finding]:
    """Check that images can be read, have the size that the annotations say, and are not darkened by the loader.

    Args:
        file: The file, whose names and sizes were mended.
        folder: The folder of the images.
        used: The images that will be loaded.
        turned: Whether the loader turns images as their EXIF data says.
        full: Whether to decode all images, or to read some headers.

    Yields:
        What is wrong.
    """
    looked_at = used if full else spread(used, QUICK)
    unreadable, unturned, resized, moved, deep, foreign, why = [], [], [], [], [], [], ''
    confirmed = False  # by the size that the annotations give an image that is turned by a quarter
    for image, found in _shown(_read(looked_at, folder, full), len(looked_at), f'reading images of {file.path.name}'):
        if isinstance(found, str):
            why = why or found
            unreadable.append(image)
        if not isinstance(found, Header):
            continue
        if (found.format not in FORMATS or found.bits > 16) and not _opencv_reads(folder / image['file_name']):
            foreign.append(image)
        elif found.bits > 8:
            deep.append(image)
        size, loaded = (image.get('width'), image.get('height')), loaded_size(found, turned)
        if found.rotated and size == loaded[::-1] and loaded[0] != loaded[1]:
            unturned.append(image)
        elif size != loaded:
            resized.append((image, f'{size[0]}x{size[1]} where the image is {loaded[0]}x{loaded[1]}'))
        elif turned or found.format == 'TIFF':
            confirmed |= found.quarter and id(image) not in file.measured
            if found.moved or (found.quarter and id(image) in file.measured):
                moved.append(image)
    among = f' of {len(looked_at)} looked at' if len(looked_at) < len(file.content['images']) else ''
    yield from file.found('error', f'images{among} that cannot be read', f'{why}: replace them or remove their entries', unreadable)
    yield from file.found('error', f'images{among} in a format that OpenCV does not read', 'convert them to JPEG or PNG', foreign)
    deep = [image for image in (deep if full else spread(deep, DEEP)) if _brightest(folder / image['file_name']) < BRIGHT]
    if deep:
        brightest = _brightest(folder / deep[0]['file_name'])
        what = f'images{among} with 16 bits per channel and small values, up to {brightest} here'
        remedy = f'the loader keeps the upper 8 of 16 bits, so that {brightest} becomes {brightest >> 8} of 255: scale them to 8 bits'
        yield from file.found('warning', what, remedy, deep)

    def level(wrong: list) -> Level:
        return 'error' if len(wrong) > RARE * len(looked_at) else 'warning'

    what = f'images{among} with a rotation in their EXIF data that their width and height in the annotations '
    what += 'are without' if turned else 'are with'
    color_type = 'color_ignore_orientation' if turned else 'color'
    remedy = f'boxes and images do not agree: set color_type={color_type} in LoadImageFromFile of every pipeline, or turn the pixels'
    yield from file.found(level(unturned), what, remedy, unturned)
    if not unturned and not confirmed:
        what = f'images{among} that the loader turns or mirrors as their EXIF data says'
        yield from file.found('warning', what, f'no size in the annotations shows whether these are turned, too: {LOOK}', moved)
    if resized:
        what = f'images{among} of another size than their width and height in the annotations, {resized[0][1]}'
        remedy = 'boxes and masks are in pixels of the image: mend both'
        yield from file.found(level(resized), what, remedy, [image for image, _ in resized])


def _opencv_reads(path: Path) -> bool:
    import cv2

    try:
        return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) is not None
    except cv2.error:
        return False


def _brightest(path: Path) -> int:
    """Return the largest value of an image with more than 8 bits per channel, as OpenCV reads it; ``BRIGHT`` for floating point."""
    import cv2

    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return int(pixels.max()) if pixels is not None and pixels.dtype == np.uint16 else BRIGHT
