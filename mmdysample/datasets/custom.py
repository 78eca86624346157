"""Point a config at a folder of the user's own."""

from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
from mmengine.config import Config

from .check import class_names, is_panoptic, leaves, panoptic_classes, read_coco


class Split(NamedTuple):
    """Where a split lies; None stands for the usual place."""

    ann: Optional[str] = None
    img: Optional[str] = None


def use_folder(config: Config, root: str, splits: dict[str, Split]) -> list[str]:
    """Read all data from a folder.

    A config with COCO annotations finds them as ``annotations/instances_{train,val}*.json``, and the images in ``{train,val}*/``; a
    panoptic one as ``annotations/panoptic_{train,val}*.json``, with the PNG files in a folder beside it, of the same name. When the
    categories are not those of the config, the classes and every ``num_classes`` of the model are set from the annotations. Any other
    config keeps its layout and reads it from the folder.

    Args:
        config: The config, changed in place so that it needs nothing else later.
        root: The folder.
        splits: ``'train'``, ``'val'`` or both, and where their files lie, relative to here or to the folder.

    Returns:
        What was found, in sentences for the user.

    Raises:
        ValueError: The folder, a file or a key in it is missing, or there is more than one candidate.
    """
    folder = Path(root).resolve()
    if not folder.is_dir():
        raise ValueError(f'there is no data folder {root}')
    config.pop('shapes', None)  # nothing is to be drawn
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
        # One of its own: CocoDataset would keep COCO's 80 colours.
        palette = [tuple(colour) for colour in np.random.default_rng(0).integers(0, 256, (len(names), 3)).tolist()]
        for dataset in every:
            dataset['metainfo'] = dict(classes, palette=palette)
        things = classes.get('thing_classes', tuple(names))  # the detector's classes; the stuff is the semantic head's
        counts = dict(num_classes=len(things), num_things_classes=len(things), num_stuff_classes=len(names) - len(things))
        _set_counts(config.model, counts)
        found.append(f'classes: {len(names)} from the annotations ({", ".join(names)})')
    return found


def _find(folder: Path, given: Optional[str], pattern: str, flag: str) -> Path:
    if given:
        for candidate in (Path(given), folder / given):
            if candidate.exists():
                return candidate.resolve()
        raise ValueError(f'{flag}: there is no {given}, neither here nor in {folder}')
    wants_folder = pattern.endswith('/')
    found = sorted(path for path in folder.glob(pattern.rstrip('/')) if path.is_dir() == wants_folder)
    if len(found) != 1:
        candidates = f'more than one ({", ".join(path.name for path in found)})' if found else 'none'
        raise ValueError(f'{folder} should hold one {pattern}, and holds {candidates}: name it with {flag}')
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
