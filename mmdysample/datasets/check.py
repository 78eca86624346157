"""Check a config's data before anything is built, so that missing files are reported at once."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path

from mmengine.config import Config

from .shapes_writer import ShapesSpec, ensure_shapes

COCO_KEYS = ('images', 'annotations', 'categories')
PARSE_BELOW = 64 * 2**20  # bytes; larger files are not checked, because parsing the 450 MB of COCO's training set takes too long


def prepare_data(config: Config, splits: Iterable[str]) -> None:
    """Write the Shapes scenes if the config asks for them, and check that the data is there.

    Args:
        config: The config.
        splits: The splits that will be used, of ``'train'``, ``'val'`` and ``'test'``.

    Raises:
        ValueError: A folder or an annotation file is missing or invalid. The message names the remedy.
    """
    if 'shapes' in config:
        ensure_shapes(Path(config.shapes.root), _spec(**{k: v for k, v in config.shapes.items() if k != 'root'}))
    for split in splits:
        for dataset in leaves(config.get(f'{split}_dataloader') or {}):
            _check_dataset(config, dataset)


def _spec(**arguments: int) -> ShapesSpec:
    names = [field.name for field in fields(ShapesSpec)]
    unknown = arguments.keys() - set(names)
    if unknown:
        raise ValueError(f'shapes takes {", ".join(names)} and root, got {", ".join(sorted(unknown))}')
    return ShapesSpec(**arguments)


def leaves(dataloader: dict) -> Iterator[dict]:
    """Yield the configs of the datasets of a data loader that read files, within any wrappers."""
    pending = [dataloader.get('dataset')]
    while pending:
        dataset = pending.pop()
        if dataset:
            inner = [dataset.get('dataset'), *(dataset.get('datasets') or [])]
            pending += inner
            if not any(inner):
                yield dataset


def _check_dataset(config: Config, dataset: dict) -> None:
    root = Path(dataset.get('data_root') or '')
    if not root.is_dir():
        raise ValueError(f'there is no data folder {root}{_remedy(config)}')
    ann_file = dataset.get('ann_file')
    if ann_file:
        _check_file(config, root / ann_file)
        if str(ann_file).endswith('.json') and 'Coco' in str(dataset.get('type')):
            _check_categories(root / ann_file, dataset)
    prefixes = dataset.get('data_prefix') or {}
    for prefix in prefixes.values():
        if isinstance(prefix, str) and not (root / prefix).is_dir():
            archive = (root / prefix).with_suffix('.zip')  # COCO's panoptic labels are an archive within an archive
            remedy = f'. Unpack {archive}' if archive.is_file() else _remedy(config)
            raise ValueError(f'there is no folder {root / prefix}{remedy}')
    if dataset.get('type') == 'NYUDataset' and {'img_path', 'depth_map_path'} <= prefixes.keys():
        _check_depth_maps(root / prefixes['img_path'], root / prefixes['depth_map_path'], dataset.get('img_suffix', '.jpg'))


def _check_file(config: Config, path: Path) -> None:
    if not path.is_file():
        raise ValueError(f'there is no annotation file {path}{_remedy(config)}')


def _check_depth_maps(images: Path, depths: Path, suffix: str) -> None:
    """Check that each image has a depth map of its name. Otherwise mmseg would fail only in a data loader worker."""
    names = sorted(path.relative_to(images).with_suffix('.png') for path in images.rglob(f'*{suffix}'))
    if not names:
        raise ValueError(
            f'there is no image *{suffix} in {images}; set img_suffix of every dataset, as in train_dataloader.dataset.img_suffix'
        )
    missing = [name for name in names if not (depths / name).is_file()]
    if missing:
        raise ValueError(f'{len(missing)} of the {len(names)} images in {images} have no depth map: there is no {depths / missing[0]}')


def _remedy(config: Config) -> str:
    variables = sorted(set(re.findall(r'\{\{\s*\$(\w+_ROOT)\s*:', config.text)))
    hint = f'. Set {" or ".join(variables)} to the folder of your data, or give it' if variables else '. Give the folder'
    hint += ' with --data-root'
    twin = Path(config.filename).parent / 'shapes' / f'{Path(config.filename).stem}_shapes.py'
    if twin.is_file():
        hint += f', or try {os.path.relpath(twin)}, which generates its own data'
    return hint


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


def _check_categories(path: Path, dataset: dict) -> None:
    if path.stat().st_size > PARSE_BELOW:
        return
    content = read_coco(path)
    if is_panoptic(dataset):
        panoptic_classes(path, content)
    names = [category['name'] for category in content['categories']]
    classes = class_names(dataset) or names
    # Categories that are not among the classes are allowed: metainfo=dict(classes=('person',)) selects a class. But mmdet numbers the
    # classes in the order of the file, so with another order, or a missing class, the names would not belong to the numbers.
    if [name for name in names if name in classes] != classes:
        raise ValueError(
            f'{path} has the categories {_short(names)}, and the config the classes {_short(classes)}: each class must be a category, '
            'and in the same order; with --data-root the classes are taken from the annotations'
        )


def _short(names: list[str]) -> str:
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
        raise ValueError(f'the things among the categories of {path} must come before the stuff, got {_short(list(names))}')
    return dict(classes=names, thing_classes=names[:things], stuff_classes=names[things:])
