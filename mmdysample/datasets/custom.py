"""Let a config read its data from a folder of the user."""

from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
from mmengine.config import Config

from .coco_file import class_names, is_panoptic, panoptic_classes, read_coco
from .source import leaves


class Split(NamedTuple):
    """The annotation file and the image folder of a split; None for the default location."""

    ann: Optional[str] = None
    img: Optional[str] = None


def use_folder(config: Config, root: str, splits: dict[str, Split]) -> list[str]:
    """Change a config so that it reads all data from a folder.

    For a config with COCO annotations, these are ``annotations/instances_{train,val}*.json`` by default, and the images are in
    ``{train,val}*/``. For a panoptic config, the annotations are ``annotations/panoptic_{train,val}*.json``, and the PNG files are in a
    folder of the same name next to each file. If the categories differ from the classes of the config, the classes and every
    ``num_classes`` of the model are set from the annotations. Any other config keeps its folder layout and only changes ``data_root``.

    Args:
        config: The config, changed in place, so that its saved copy is complete.
        root: The folder.
        splits: The paths for ``'train'``, ``'val'`` or both, relative to the current directory or to the folder.

    Returns:
        Lines for the user that name the files found.

    Raises:
        ValueError: The folder, a file or a key in it is missing, or there is more than one candidate.
    """
    folder = Path(root).resolve()
    if not folder.is_dir():
        raise ValueError(f'there is no data folder {root}')
    config.pop('shapes', None)  # or prepare_data would write the Shapes scenes
    loaders = {'train': ('train_dataloader',), 'val': ('val_dataloader', 'test_dataloader')}
    datasets = {split: [d for name in loaders[split] for d in leaves(config.get(name) or {})] for split in splits}
    if not all(str(dataset.get('ann_file', '')).endswith('.json') for group in datasets.values() for dataset in group):
        if any(where != Split() for where in splits.values()):
            raise ValueError('--train-ann, --val-ann, --train-img and --val-img are for COCO annotations, which this config does not read')
        for dataset in (d for group in datasets.values() for d in group):
            dataset['data_root'] = str(folder)
        return [f'data: {folder}']

    found = [f'data: {folder}']
    every = [dataset for group in datasets.values() for dataset in group]
    panoptic = any(map(is_panoptic, every))
    names: list[str] = []
    for split, where in splits.items():
        ann = _find(folder, where.ann, f'annotations/{"panoptic" if panoptic else "instances"}_{split}*.json', f'--{split}-ann')
        img = _find(folder, where.img, f'{split}*/', f'--{split}-img')
        content = read_coco(ann)
        categories = [category['name'] for category in content['categories']]
        if names and categories != names:
            raise ValueError(f'the categories of {ann} are not those of the training annotations: {categories}, {names}')
        names = categories
        classes = panoptic_classes(ann, content) if panoptic else dict(classes=tuple(names))
        seg = ann.with_suffix('')
        if panoptic and not seg.is_dir():
            raise ValueError(f'there is no folder {seg}, which should hold the PNG files of {ann.name}')
        prefix = dict(img=f'{img}/', seg=f'{seg}/') if panoptic else dict(img=f'{img}/')
        for dataset in datasets[split]:
            dataset.update(data_root=str(folder), ann_file=str(ann), data_prefix=dict(prefix))
        if split == 'val':
            for evaluator in _evaluators(config):
                evaluator.update(ann_file=str(ann), **(dict(seg_prefix=f'{seg}/') if panoptic else {}))
        found.append(f'{split}: {ann}, images in {img}')

    if any(class_names(dataset) != names for dataset in every):
        # Set a palette with the classes, because CocoDataset would keep the 80 colours of COCO.
        palette = [tuple(colour) for colour in np.random.default_rng(0).integers(0, 256, (len(names), 3)).tolist()]
        for dataset in every:
            dataset['metainfo'] = dict(classes, palette=palette)
        things = classes.get('thing_classes', tuple(names))  # the classes of the detector; the semantic head predicts the stuff
        counts = dict(num_classes=len(things), num_things_classes=len(things), num_stuff_classes=len(names) - len(things))
        _set_counts(config.model, counts)
        found.append(f'classes: {len(names)} from the annotations ({", ".join(names)})')
    return found


def _find(folder: Path, given: Optional[str], pattern: str, flag: str) -> Path:
    if given:
        for candidate in (Path(given), folder / given):
            if candidate.exists():
                return candidate.resolve()
        raise ValueError(f'{flag}: there is no {given}, neither in the current directory nor in {folder}')
    wants_folder = pattern.endswith('/')
    found = sorted(path for path in folder.glob(pattern.rstrip('/')) if path.is_dir() == wants_folder)
    if len(found) != 1:
        candidates = f'more than one ({", ".join(path.name for path in found)})' if found else 'none'
        raise ValueError(f'{folder} should hold one {pattern}, but holds {candidates}: give it with {flag}')
    return found[0]


def _evaluators(config: Config) -> list[dict]:
    evaluators: list[dict] = []
    for name in ('val_evaluator', 'test_evaluator'):
        evaluator = config.get(name) or []
        evaluators += [evaluator] if isinstance(evaluator, dict) else evaluator
    return [evaluator for evaluator in evaluators if 'ann_file' in evaluator]


def _set_counts(node: Any, counts: dict[str, int]) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in counts:
                node[key] = counts[key]
            else:
                _set_counts(value, counts)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _set_counts(value, counts)
