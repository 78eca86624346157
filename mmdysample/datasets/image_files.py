"""List folders of images, and read images' headers."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

T = TypeVar('T')
IMAGE_ENDINGS = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm', '.gif')
LOSSY_ENDINGS = ('.jpg', '.jpeg', '.webp')  # of formats whose compression changes values
ORIENTATION = 0x0112  # EXIF's tag
IMAGE_WIDTH, IMAGE_LENGTH = 256, 257  # TIFF's tags
QUARTER_TURNS = range(5, 9)  # its values that swap width and height; 2 to 4 turn by 180 degrees or mirror
BITS = {'1': 1, 'I': 32, 'F': 32, **dict.fromkeys(('I;16', 'I;16L', 'I;16B', 'I;16N'), 16)}  # of PIL's modes; 8 for all others
# The remedy where nothing shows whether annotations are turned.
LOOK = (
    'look at one with tools/visualize.py predictions; if they are not, remove the orientation from the images or, unless they are TIFF '
    'files, set color_type=color_ignore_orientation in LoadImageFromFile of every pipeline'
)
# Thumbnails that a Synology disk keeps under the images' names, and what file systems keep at their root for themselves.
PROGRAM_FOLDERS = ('@eaDir', 'lost+found', 'System Volume Information', '$RECYCLE.BIN')


@dataclass(frozen=True)
class Header:
    """What an image file says about itself.

    Args:
        width: Width in pixels of the image as the loaders return it, after EXIF rotation.
        height: Its height.
        mode: PIL's mode: ``'L'``, ``'P'``, ``'RGB'``, ``'RGBA'``, ``'CMYK'``, ``'I;16'``, ...
        bits: Bits per channel in the file: 8, 16, ... PIL's mode of a PNG file with 16-bit colours is ``'RGB'`` nevertheless.
        rotated: Whether EXIF rotation has swapped width and height, and can be switched off: OpenCV always rotates TIFF files.
        quarter: Whether EXIF rotation has swapped different width and height, so that the size shows it, also in a TIFF file.
        moved: Whether its EXIF orientation moves pixels, but keeps width and height: half a turn, a mirrored image, or a square.
        format: PIL's name of the format: ``'JPEG'``, ``'PNG'``, ...
    """

    width: int
    height: int
    mode: str
    bits: int
    rotated: bool
    quarter: bool
    moved: bool
    format: str


@lru_cache(maxsize=16)
def listing(folder: Path) -> frozenset[str]:
    """Return the names of all files below a folder.

    Hidden files and folders are left out, as are links that lead back to a parent. One listing takes 0.2 s for COCO's 118,000 images, where
    one look-up for each image takes minutes on a network file system. It is cached; :func:`forget` empties the cache.

    Args:
        folder: The folder.

    Returns:
        Names relative to the folder, with ``/`` between their parts. Empty if there is no such folder.

    Raises:
        ValueError: The folder, or one below it, may not be read.
    """
    names: list[str] = []
    pending: list[tuple[str, tuple[str, ...]]] = [('', (os.path.realpath(folder),))]
    while pending:
        below, parents = pending.pop()
        path = os.path.join(folder, below)
        try:
            entries = list(os.scandir(path))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:  # its images would otherwise seem to be missing
            raise ValueError(f'{path} cannot be read: {error.strerror}') from error
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if not entry.is_dir():
                names.append(below + entry.name)
            elif (real := os.path.realpath(entry.path) if entry.is_symlink() else parents[-1] + '/' + entry.name) not in parents:
                pending.append((f'{below}{entry.name}/', (*parents, real)))
    return frozenset(names)


def is_hidden(name: str) -> bool:
    """Return True if a part of a relative name is hidden, or is a folder in which a program keeps copies of images."""
    return any(part.startswith('.') or part in PROGRAM_FOLDERS for part in name.replace(os.sep, '/').split('/'))


def forget() -> None:
    """Forget the listings of folders, which may have changed."""
    listing.cache_clear()


def spread(items: Sequence[T], count: int) -> list[T]:
    """Return some items of a sequence at equal distances, the first and the last among them, or all if there are no more than ``count``."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / max(count - 1, 1))] for i in range(count)]


def header(path: Path) -> Header:
    """Return the header of an image, without decoding its pixels.

    Raises:
        ValueError: The file is missing, empty, or not an image.
    """
    with _opened(path) as image:
        orientation = _orientation(image)
        swapped = orientation in QUARTER_TURNS
        if image.format == 'TIFF':  # newer versions of Pillow give the size after the rotation
            tags: Any = image.tag_v2
            size = tags[IMAGE_WIDTH], tags[IMAGE_LENGTH]
        else:
            size = image.size
        width, height = size[::-1] if swapped else size
        quarter, rotated = swapped and width != height, swapped and image.format != 'TIFF'
        moved = orientation in range(2, 5) or (swapped and width == height)
        return Header(width, height, image.mode, _bits(image, path), rotated, quarter, moved, image.format or '')


def check_pixels(path: Path) -> None:
    """Decode an image.

    Raises:
        ValueError: The file is missing, empty, cut off, or not an image.
    """
    with _opened(path) as image:
        try:
            image.load()
        except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, ValueError, struct.error, ...
            raise ValueError(f'{path} cannot be decoded ({error})') from error


def _opened(path: Path) -> 'ImageFile':
    from PIL import Image, PngImagePlugin  # here, because configs are also read where Pillow is not installed

    try:
        if not path.stat().st_size:
            raise ValueError(f'{path} is an empty file')
        # An aerial image is no attack, nor is a large colour profile or the workflow of an image generator.
        Image.MAX_IMAGE_PIXELS = None
        PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 2**30
        return Image.open(path)
    except FileNotFoundError as error:
        raise ValueError(f'there is no image {path}') from error
    except (OSError, SyntaxError) as error:
        reason = 'its content is of no known format' if isinstance(error, Image.UnidentifiedImageError) else error
        raise ValueError(f'{path} is not an image that can be read ({reason})') from error


def _orientation(image: 'ImageFile') -> int:
    """Return the orientation that a loader applies: EXIF's own. Pillow's ``getexif`` would also take one from XMP data."""
    from PIL import Image

    if image.format == 'TIFF':
        return image.tag_v2.get(ORIENTATION, 1)  # type: ignore[attr-defined]
    exif = Image.Exif()
    try:
        # Of a PNG file, only what stands before its pixels: Pillow would decode them to look for more.
        exif.load(image.info.get('exif', b''))
        return exif.get(ORIENTATION, 1)
    except Exception:  # damaged EXIF data, for which Pillow has several errors, turn nothing
        return 1


def _bits(image: 'ImageFile', path: Path) -> int:
    if image.format == 'PNG':
        with path.open('rb') as file:
            return file.read(25)[24]
    if image.format == 'TIFF':
        depth = image.tag_v2.get(258, 1)  # type: ignore[attr-defined]
        return int(depth[0] if isinstance(depth, tuple) else depth)
    return BITS.get(image.mode, 8)
