"""Find out what mmdet leaves of a COCO file: the images that will be loaded, and the objects in them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..findings import Finding, Level
from ..source import Source
from .file import CocoFile, Entry


@dataclass
class Filter:
    """Which images mmdet leaves out: those smaller than ``min_size``, and those without objects if ``filter_empty_gt``."""

    min_size: int = 0
    filter_empty_gt: bool = False

    @classmethod
    def of(cls, source: Source) -> 'Filter':
        """Return the filter of a dataset; none if it is in test mode."""
        given: dict[str, Any] = {} if source.dataset.get('test_mode') else source.dataset.get('filter_cfg') or {}
        return cls(given.get('min_size') or 0, bool(given.get('filter_empty_gt')))


def is_small(image: Entry, min_size: int) -> bool:
    """Return True if an image is left out because of its size."""
    return min(image.get('width') or min_size, image.get('height') or min_size) < min_size


def images_left(file: CocoFile, source: Source, categories: set) -> list[Entry]:
    """Return the images that a dataset will load.

    Args:
        file: The file.
        source: The dataset.
        categories: The ids of its classes.
    """
    chosen = Filter.of(source)
    images = [i for i in file.content['images'] if not is_small(i, chosen.min_size)]
    if not chosen.filter_empty_gt:
        return images
    filled = {a['image_id'] for a in file.objects() if a['category_id'] in categories}
    return [i for i in images if i['id'] in filled]


def check_left(file: CocoFile, source: Source, categories: set) -> Iterator[Finding]:
    """Check that images and objects are left after filtering, and that no large part is lost.

    Args:
        file: The file.
        source: The dataset.
        categories: The ids of its classes.

    Yields:
        What is lost.
    """
    images, objects = file.content['images'], file.objects()
    what_for = 'train on' if source.split == 'train' else 'test on'
    if not images:
        yield Finding('error', file.path, f'images: there is nothing to {what_for}', 'list the images', 0)
        return
    level: Level = 'error' if source.split == 'train' else 'warning'
    if not objects:
        if not any(evaluator.get('format_only') for evaluator in source.evaluators):
            yield Finding(level, file.path, f'annotations: there is no object to {what_for}', 'annotate the images', 0)
        return
    known = {image['id'] for image in images}
    strangers = [a for a in objects if a['image_id'] not in known]
    remedy = 'its image_id is that of no image: they are left out'
    yield from file.found('error' if len(strangers) == len(objects) else 'warning', 'objects of no image', remedy, strangers, 'image_id')
    if len(strangers) == len(objects):
        return
    chosen = Filter.of(source)
    small = [i for i in images if is_small(i, chosen.min_size)]
    option = source.options({'filter_cfg.min_size': 0})
    yield from file.found(
        'error' if len(small) == len(images) else 'warning',
        f'of {len(images)} images are left out because they are smaller than filter_cfg.min_size={chosen.min_size}',
        f'take them with {option}',
        small,
    )
    if len(small) == len(images):
        return
    yield from _check_objects(file, objects, categories, level, what_for)
    left = images_left(file, source, categories)
    if not left:
        reason = 'none of those that are large enough has an object of the classes'
        yield Finding('error', file.path, f'images are left to {what_for}', f'{reason}: see filter_cfg.filter_empty_gt and the classes', 0)
    filled = {a['image_id'] for a in objects}
    empty = [i for i in images if i['id'] not in filled]
    if chosen.filter_empty_gt and len(empty) > len(images) / 2:
        what = f'of {len(images)} images are left out because they have no object (filter_cfg.filter_empty_gt)'
        option = source.options({'filter_cfg.filter_empty_gt': False})
        yield from file.found('warning', what, f'take them as background with {option}', empty)


def _check_objects(file: CocoFile, objects: list[Entry], categories: set, level: Any, what_for: str) -> Iterator[Finding]:
    """Check that an object is left, by mmdet's conditions."""
    (x, y, w, h), (width, height) = file.boxes.T, file.sizes.T
    crowd = np.array([bool(a['iscrowd']) for a in objects])
    ignored = np.array([bool(a.get('ignore')) for a in objects])
    other = np.array([a['category_id'] not in categories for a in objects])
    inside = (np.minimum(x + w, width) > np.maximum(x, 0)) & (np.minimum(y + h, height) > np.maximum(y, 0))
    thin = (w < 1) | (h < 1) | ~(inside | np.isnan(width))
    if (crowd | ignored | other | thin).all():
        counts = {
            'crowds': crowd,
            'of other classes': other,
            'marked to be ignored': ignored,
            'outside of their image or without a size': thin,
        }
        reasons = ', '.join(f'{int(chosen.sum())} are {name}' for name, chosen in counts.items() if chosen.any())
        yield Finding(level, file.path, f'objects, but none to {what_for}: {reasons}', 'mend the annotations', len(objects))
