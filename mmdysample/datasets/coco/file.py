"""Read COCO annotation files, each once."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from mmdysample.terminal.progress import progress
from mmdysample.terminal.text import short

from ..findings import Finding, Level
from ..source import kind_of
from .categories import mend_categories
from .parsing import parse

COCO_KEYS = ('images', 'annotations', 'categories')
LONG = 2**25  # bytes from which reading is shown by a progress bar
ID_KEYS = ('id', 'image_id', 'category_id')
Entry = dict[str, Any]


@dataclass
class CocoFile:
    """A COCO annotation file in memory.

    Args:
        path: The file.
        content: Its content, which the checks mend in place.
        findings: What was found and mended while it was read.
        measured: The entries of images, by Python's ``id``, whose width and height were read from the image.
        readers: How many datasets will still take the content; infinity if an evaluator does.
    """

    path: Path
    content: dict[str, Any]
    findings: list[Finding] = field(default_factory=list)
    measured: set[int] = field(default_factory=set)
    readers: float = 0

    def __post_init__(self) -> None:
        # The entries as they are numbered in the file, for messages: checks take out of the content what they cannot use.
        self.images, self.annotations = list(self.content['images']), list(self.content['annotations'])

    @property
    def panoptic(self) -> bool:
        """Whether its annotations are lists of segments."""
        annotations = self.content['annotations']
        return bool(annotations) and all('segments_info' in annotation for annotation in annotations)

    def objects(self) -> list[Entry]:
        """Return its objects: the annotations or, in panoptic files, the segments, each with its ``image_id``."""
        annotations = self.content['annotations']
        if not self.panoptic:
            return annotations
        for annotation in annotations:
            for segment in annotation['segments_info']:
                segment['image_id'] = annotation.get('image_id')  # as mmdet does
        return [segment for annotation in annotations for segment in annotation['segments_info']]

    @cached_property
    def boxes(self) -> np.ndarray:
        """The boxes of the objects, ``(N, 4)``, float64: x, y, width, height. To be used only once they are mended."""
        return boxes_of(self.objects())

    @cached_property
    def sizes(self) -> np.ndarray:
        """The width and height of each object's image, ``(N, 2)``, float64; NaN where there is no such image, or no size."""
        images, objects = self.content['images'], self.objects()
        table = np.array([(i.get('width') or np.nan, i.get('height') or np.nan) for i in images] + [(np.nan, np.nan)], np.float64)
        rows = {image['id']: row for row, image in enumerate(images)}
        return table[np.fromiter((rows.get(a['image_id'], -1) for a in objects), np.int64, len(objects))]

    def name(self, entry: Entry) -> str:
        """Return the place of an entry in the file, and the image that it belongs to."""
        for i, image in enumerate(self.images):
            if image is entry:
                return f'images[{i}]' + (f', {image["file_name"]}' if image.get('file_name') else '')
        owner = next((i.get('file_name') for i in self.images if i.get('id') == entry.get('image_id')), None)
        of = f' of {owner}' if owner else ''
        for i, annotation in enumerate(self.annotations):
            if annotation is entry:
                return f'annotations[{i}]{of}'
            if any(segment is entry for segment in annotation.get('segments_info') or ()):
                return f'segment {entry.get("id")} of annotations[{i}]{of}'
        return str(entry)[:80]

    def found(self, level: Level, what: str, remedy: str, entries: list[Entry], key: str = '') -> Iterator[Finding]:
        """Yield a finding about some entries, the first of which is the example, with its value of a key; nothing if there are none."""
        if entries:
            value = f', {key}: {json.dumps(entries[0][key])[:60]}' if key in entries[0] else ''
            yield Finding(level, self.path, what, remedy, len(entries), self.name(entries[0]) + value)


def boxes_of(objects: list[Entry]) -> np.ndarray:
    """Return the boxes of objects, ``(N, 4)``, float64: x, y, width, height."""
    values = np.fromiter(chain.from_iterable(a['bbox'] for a in objects), np.float64, 4 * len(objects))
    return values.reshape(-1, 4)


# Files that were read for the check. Parsing COCO's training annotations takes seconds, so the dataset takes what the check has parsed.
_kept: dict[tuple[str, int, int], CocoFile] = {}


def read_file(path: Path) -> CocoFile:
    """Return a COCO annotation file, parsed once until :func:`hand_over` or :func:`forget_files`.

    Raises:
        ValueError: The file is missing, is not JSON, or is not in COCO's format.
    """
    if not path.is_file():
        raise ValueError(f'there is no annotation file {path}')
    key = _key(path)
    if key not in _kept:
        shown = progress(map(parse, [path]), f'reading {path.name}', 1) if path.stat().st_size >= LONG else [parse(path)]
        ((content, findings),) = shown
        check_form(path, content)
        file = CocoFile(path, content, findings)
        content['info'] = content.get('info') or {}  # pycocotools 2.0.10 evaluates no file without it
        file.findings += mend_categories(path, content['categories'], file.objects())
        _kept[key] = file
    return _kept[key]


def read_coco(path: Path) -> dict[str, Any]:
    """Return the content of a COCO annotation file, with the categories as they are mended.

    Raises:
        ValueError: The file is missing, is not JSON, or is not in COCO's format.
    """
    content = read_file(path).content
    return {**content, 'categories': [dict(category) for category in content['categories']]}


def hand_over(path: str) -> dict[str, Any] | None:
    """Return the mended content of a file to a dataset or an evaluator, or None if the file was not checked.

    The last of the datasets that the config names takes it out of memory: COCO's training annotations need gigabytes, which a dataset gives
    back as soon as it has made its list of images. What evaluators read stays.
    """
    key = _key(Path(path))
    file = _kept.get(key)
    if file is None or not file.readers:
        return None
    file.readers -= 1
    if not file.readers:
        del _kept[key]
    # mmdet sorts the categories, or adds some.
    return {**file.content, 'categories': list(file.content['categories'])}


def kept_file(path: Path) -> CocoFile | None:
    """Return a file if it is in memory, or None."""
    return _kept.get(_key(path)) if path.is_file() else None


def forget_files() -> None:
    """Forget the files that a check has mended: the next check reads them again."""
    for key in [key for key, file in _kept.items() if file.readers]:
        del _kept[key]


def _key(path: Path) -> tuple[str, int, int]:
    stat = path.stat()
    return os.path.realpath(path), stat.st_size, stat.st_mtime_ns


def check_form(path: Path, content: Any) -> None:
    """Raise ValueError unless a value is an object with lists of objects, as COCO annotations are."""
    if isinstance(content, list):
        what = 'predictions' if content and isinstance(content[0], dict) and 'score' in content[0] else 'a list'
        raise ValueError(f'{path} is not in COCO format: it holds {what}, expected an object with {", ".join(COCO_KEYS)}')
    missing = [key for key in COCO_KEYS if not isinstance(content, dict) or key not in content]
    if missing:
        raise ValueError(f'{path} is not in COCO format: it lacks {", ".join(missing)} (expected {", ".join(COCO_KEYS)})')
    categories = content['categories']
    named = isinstance(categories, list) and all(isinstance(c, dict) and isinstance(c.get('name'), (str, int)) for c in categories)
    if not categories or not named:
        raise ValueError(f'{path} is not in COCO format: its categories must be a list of at least one object with a name')
    for key in COCO_KEYS:
        _check_list(path, key, content[key])
    for i, annotation in enumerate(content['annotations']):
        if 'segments_info' in annotation:
            _check_list(path, f'annotations[{i}].segments_info', annotation['segments_info'])
    nameless = next((i for i, category in enumerate(categories) if category.get('id') is None), None)
    if nameless is not None:
        raise ValueError(f'{path} is not in COCO format: categories[{nameless}] has no id')


def _check_list(path: Path, name: str, entries: Any) -> None:
    """Raise ValueError unless a value is a list of objects, whose ids are numbers or texts."""
    if not isinstance(entries, list):
        raise ValueError(f'{path} is not in COCO format: {name} is {_kind(entries)}, expected a list')
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise ValueError(f'{path} is not in COCO format: {name}[{i}] is {_kind(entry)}, expected an object')
        for key in ID_KEYS:
            if isinstance(entry.get(key), (bool, list, dict)):
                raise ValueError(f'{path} is not in COCO format: {key} of {name}[{i}] is {_kind(entry[key])}, expected an integer')


def _kind(value: Any) -> str:
    names = {dict: 'an object', list: 'a list', str: 'a text', bool: 'true or false', type(None): 'null'}
    return names.get(type(value), 'a number')


def is_panoptic(dataset: dict) -> bool:
    """Return True if a dataset reads panoptic labels in COCO's format."""
    return kind_of(dataset) == 'CocoPanopticDataset'


def panoptic_classes(path: Path, content: dict) -> dict[str, tuple[str, ...]]:
    """Return the classes of panoptic annotations.

    Args:
        path: The file, for error messages.
        content: Its content, as returned by :func:`read_coco`.

    Returns:
        ``classes``, ``thing_classes`` and ``stuff_classes``, as in mmdet's ``metainfo``.

    Raises:
        ValueError: A category lacks ``isthing``, an annotation lacks ``segments_info``, or a thing comes after stuff.
    """
    categories = content['categories']
    segmented = all('segments_info' in annotation for annotation in content['annotations'])
    if not segmented or not all('isthing' in category for category in categories):
        raise ValueError(f"{path} is not in COCO's panoptic format: each category needs isthing, and each annotation segments_info")
    flags = [bool(category['isthing']) for category in categories]
    names = tuple(category['name'] for category in categories)
    things = sum(flags)
    if not all(flags[:things]):
        # mmdet numbers the classes in the order of the file, and its heads treat the first ones as things.
        raise ValueError(f'the things among the categories of {path} must come before the stuff, got {short(list(names))}')
    return dict(classes=names, thing_classes=names[:things], stuff_classes=names[things:])
