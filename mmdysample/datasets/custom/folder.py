"""Change a config so that it reads its data from a folder of the user."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config

from ..source import leaves
from .asked import asked_for
from .coco import use_coco
from .maps import use_maps
from .places import Split
from .segmentation import use_label_maps

LOADERS = {'train': ('train_dataloader',), 'val': ('val_dataloader', 'test_dataloader')}


def use_folder(
    config: Config,
    root: str,
    splits: Mapping[str, Split],
    classes: Optional[Sequence[str]] = None,
    options: Optional[Mapping[str, Any]] = None,
) -> list[str]:
    """Change a config so that it reads all data from a folder.

    What the folder should hold depends on what the config reads: annotations in COCO's format (see ``use_coco``), label maps (see
    ``use_label_maps``) or depth maps (see ``use_maps``). For anything else, only ``data_root`` changes.

    Args:
        config: The config, changed in place, so that its saved copy is complete.
        root: The folder.
        splits: The paths for ``'train'``, ``'val'`` or both, relative to the current directory or to the folder.
        classes: The names of the classes: for label maps in the order of their values, for COCO's format a choice of the categories.
        options: The changes that ``--cfg-options`` has already made to the config. They have the last word.

    Returns:
        Lines for the user that name what was found.

    Raises:
        ValueError: The folder, a file or a key in it is missing, there is more than one candidate, or the classes do not fit the labels.
    """
    folder = Path(root).expanduser().resolve()
    if not folder.is_dir():
        raise ValueError(f'there is no data folder {root}')
    options = options or {}
    classes = classes or asked_for(options, 'metainfo.classes')
    datasets = {split: [d for name in LOADERS[split] for d in leaves(config.get(name) or {})] for split in splits}
    every = [dataset for group in datasets.values() for dataset in group]
    found = [f'data: {folder}']
    if all(str(dataset.get('ann_file', '')).endswith('.json') for dataset in every):
        found += use_coco(config, folder, splits, datasets, classes)
    elif _have(every, 'seg_map_path'):
        found += use_label_maps(config, folder, splits, datasets, classes, options)
    elif classes:
        raise ValueError('--classes is for label maps and COCO annotations, which this config does not read')
    elif _have(every, 'depth_map_path'):
        found += use_maps(config, folder, splits, datasets, options, 'depth_map_path', ('test*/', 'val*/'))[1]
    elif any(where != Split() for where in splits.values()):
        raise ValueError(
            '--train-ann, --val-ann, --train-img and --val-img are for COCO annotations, label maps and depth maps, '
            'which this config does not read'
        )
    else:
        for dataset in every:
            dataset['data_root'] = str(folder)
    config.pop('shapes', None)  # or prepare_data would write the Shapes scenes
    for loader in (config.get(name) or {} for split in splits for name in LOADERS[split]):
        _drop_copies(loader.get('dataset'))
    config.merge_from_dict(dict(options))
    return found


def _have(datasets: list[dict], prefix: str) -> bool:
    return all(prefix in (dataset.get('data_prefix') or {}) for dataset in datasets)


def _drop_copies(dataset: Any) -> None:
    """Leave one of several concatenated datasets if they all read the same files now: otherwise each image would count twice."""
    while isinstance(dataset, dict):
        parts = dataset.get('datasets') or []
        if parts and all(part == parts[0] for part in parts):
            dataset['datasets'] = parts[:1]
        dataset = dataset.get('dataset') or next(iter(parts), None)
