"""Check annotations in COCO's format."""

from collections.abc import Iterator

from .coco_file import class_names, is_panoptic, panoptic_classes, read_coco, short
from .findings import Finding
from .source import Source


def check_coco(source: Source, full: bool) -> Iterator[Finding]:
    """Check the annotation file of a dataset in COCO's format.

    Args:
        source: The dataset.
        full: Whether to read everything, or only what takes seconds.

    Yields:
        What is wrong.

    Raises:
        ValueError: The file cannot be read at all.
    """
    path = source.ann_file
    if path is None or path.suffix != '.json' or 'Coco' not in source.kind:
        return
    content = read_coco(path)
    if is_panoptic(source.dataset):
        panoptic_classes(path, content)
    names = [category['name'] for category in content['categories']]
    classes = class_names(source.dataset) or names
    # Categories that are not among the classes are allowed: metainfo=dict(classes=('person',)) selects a class. But mmdet numbers the
    # classes in the order of the file, so with another order, or a missing class, the names would not belong to the numbers.
    if [name for name in names if name in classes] != classes:
        raise ValueError(
            f'{path} has the categories {short(names)}, and the config the classes {short(classes)}: each class must be a category, '
            'and in the same order; with --data-root the classes are taken from the annotations'
        )
    yield from ()
