"""Find the files that a COCO file means by the names of its images."""

import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional
from urllib.parse import unquote

from ..findings import Finding
from ..image_files import listing
from .file import CocoFile, Entry


def mend_names(file: CocoFile, folder: Path) -> Iterator[Finding]:
    """Make the name of each image a text, and that of a file if it is clear which one is meant.

    Names may come from Windows, hold the folder's own name, be the path on another machine, lack their ending, or differ in case. They are
    mended only if each of them then means one file that no other image means.

    Args:
        file: The file, changed in place.
        folder: The folder of the images.

    Yields:
        What was mended, and what cannot be.
    """
    images = file.content['images']
    nameless = [i for i in images if type(i.get('file_name')) not in (str, int) or i['file_name'] == '']
    yield from file.found('error', 'images without a file_name', f'name their files in {folder}', nameless, 'file_name')
    for image in nameless:
        image['file_name'] = ''
    for image in images:
        image['file_name'] = str(image['file_name'])
    absent = [i for i in images if i['file_name'] and not is_there(i['file_name'], folder)]
    if not absent:
        return
    files = Files(folder)
    meant = {name: files.find(name) for name in {i['file_name'] for i in absent}}
    taken = Counter({i['file_name'] for i in images})
    taken.update(name for name in meant.values() if name)
    found = {name: file_ for name, file_ in meant.items() if file_ and taken[file_] == 1}
    renamed = [i for i in absent if i['file_name'] in found]
    remedy = f'the file is taken that is clearly meant: here {found[renamed[0]["file_name"]]}' if renamed else ''
    yield from file.found('mended', f'images whose files in {folder} have other names', remedy, renamed)
    for image in renamed:
        image['file_name'] = found[image['file_name']]


def is_there(name: str, folder: Path) -> bool:
    """Return True if the loader finds an image by its name."""
    if name in listing(folder):
        return True
    # Only names of an unusual form can mean a file that is not listed: hidden ones, absolute ones, or names with "..".
    return bool(re.search(r'^[./]|/[./]|/$', name)) and os.path.isfile(os.path.join(folder, name))


class Files:
    """The files of a folder, to find by names that are not quite theirs."""

    def __init__(self, folder: Path) -> None:
        self.own = _fold(Path(os.path.abspath(folder)).name)
        self.names = listing(folder)
        self.folded = _unique((_fold(name), name) for name in self.names)
        self.stems = _unique((_fold(posixpath.splitext(name)[0]), name) for name in self.names)

    def find(self, name: str) -> Optional[str]:
        """Return the file that is clearly meant by a name, or None."""
        parts = [part for part in name.replace('\\', '/').split('/') if part not in ('', '.')]
        for start in range(len(parts)):
            if start and _fold(parts[start - 1]) != self.own:
                continue  # another folder may hold another image of the same name
            short = '/'.join(parts[start:])
            if short in self.names:
                return short
            if found := self.folded.get(_fold(short)):
                return found
            if not posixpath.splitext(short)[1] and (found := self.stems.get(_fold(short))):
                return found
        return None

    def similar(self, name: str) -> Optional[str]:
        """Return a file whose name differs in its ending or folder only, or None."""
        stem = _fold(posixpath.splitext(name.replace('\\', '/'))[0])
        base = stem.split('/')[-1]
        return self.stems.get(stem) or next((n for n in sorted(self.names) if _fold(posixpath.splitext(n)[0]).split('/')[-1] == base), None)


def _fold(name: str) -> str:
    """Return a name without its case, spaces around it and codes of URLs, and with its accents in one form: a Mac writes é as e and ´."""
    return unicodedata.normalize('NFC', unquote(name)).casefold().strip()


def _unique(pairs: Any) -> dict[str, Optional[str]]:
    found: dict[str, Optional[str]] = {}
    for key, name in pairs:
        found[key] = None if key in found else name
    return found


def check_names(file: CocoFile, folder: Path, used: list[Entry]) -> Iterator[Finding]:
    """Check that the images are there, and that none is listed twice.

    Args:
        file: The file, whose names were mended.
        folder: The folder of the images.
        used: The images that will be loaded.

    Yields:
        What is wrong.
    """
    images = file.content['images']
    absent = [i for i in used if i['file_name'] and not is_there(i['file_name'], folder)]
    remedy = 'put them there or remove their entries; --train-img, --val-img or data_prefix give another folder'
    if similar := Files(folder).similar(absent[0]['file_name']) if absent else None:
        remedy = f'there is {similar}; {remedy}'
    yield from file.found('error', f'of {len(images)} images are not in {folder}', remedy, absent)
    times = Counter(i['file_name'] for i in images)
    twice = [i for i in images if i['file_name'] and times[i['file_name']] > 1]
    remedy = 'each entry is an image of its own, in which the objects of the other entries are background: merge them'
    yield from file.found('warning', 'images with the name of another one', remedy, twice, 'id')


def check_label_maps(file: CocoFile, folder: Path, used: list[Entry], suffix: str) -> Iterator[Finding]:
    """Check that each image has a label map, for datasets with boxes and label maps.

    Args:
        file: The file, whose names were mended.
        folder: The folder of the label maps.
        used: The images that will be loaded.
        suffix: The ending of a label map in place of that of the image.

    Yields:
        What is missing.
    """
    absent = [i for i in used if i['file_name'] and not is_there(i['file_name'].rsplit('.', 1)[0] + suffix, folder)]
    yield from file.found('error', f'images have no label map in {folder}', f'its name is that of the image, with {suffix}', absent)
