"""Read COCO annotation files."""

import json
from pathlib import Path

COCO_KEYS = ('images', 'annotations', 'categories')


def read_coco(path: Path) -> dict:
    """Return the content of a COCO annotation file.

    Raises:
        ValueError: The file is missing, is not JSON, or lacks keys of COCO's format.
    """
    if not path.is_file():
        raise ValueError(f'there is no annotation file {path}')
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f'{path} is not JSON: {error}') from error
    missing = [key for key in COCO_KEYS if not isinstance(content, dict) or key not in content]
    if missing:
        raise ValueError(f'{path} is not in COCO format: it lacks {", ".join(missing)} (expected {", ".join(COCO_KEYS)})')
    categories = content['categories']
    named = isinstance(categories, list) and all(isinstance(category, dict) and 'name' in category for category in categories)
    if not categories or not named:
        raise ValueError(f'{path} is not in COCO format: its categories must be a list of at least one object with a name')
    return content


def short(names: list[str]) -> str:
    """Return the first names of a list, and how many there are."""
    return f'{", ".join(names[:5])}, ... ({len(names)})' if len(names) > 5 else ', '.join(names)


def class_names(dataset: dict) -> list[str]:
    """Return the classes in a dataset's config, or else those of its dataset class; an empty list if they are unknown."""
    classes = (dataset.get('metainfo') or {}).get('classes')
    if not classes and dataset.get('type') in ('CocoDataset', 'CocoPanopticDataset'):
        from mmdet import datasets

        classes = getattr(datasets, dataset['type']).METAINFO['classes']
    return list(classes or ())


def is_panoptic(dataset: dict) -> bool:
    """Return True if a dataset reads panoptic labels in COCO's format."""
    return str(dataset.get('type')).endswith('CocoPanopticDataset')


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
