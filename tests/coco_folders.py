"""Small folders with COCO annotations, and what the checks find in them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from PIL import Image

from mmdysample.datasets.check import check_data

WIDTH, HEIGHT = 48, 36
BOXES = ((4, 5, 12, 10), (30, 20, 14, 12))
Change = Callable[[dict, Path], Any]


def polygon(x, y, w, h):
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def content(count: int = 3) -> dict:
    """Return sound annotations of images with an object of each of two classes."""
    images = [dict(id=i + 1, file_name=f'{i:03}.png', width=WIDTH, height=HEIGHT) for i in range(count)]
    annotations = [
        dict(
            id=2 * i + k + 1,
            image_id=i + 1,
            category_id=k + 1,
            bbox=list(box),
            area=box[2] * box[3],
            iscrowd=0,
            segmentation=[polygon(*box)],
        )
        for i in range(count)
        for k, box in enumerate(BOXES)
    ]
    return dict(images=images, annotations=annotations, categories=[dict(id=1, name='cat'), dict(id=2, name='dog')])


def write(root: Path, change: Change = lambda c, folder: None, splits=('train',), encode=lambda text: text.encode(), count=3) -> Path:
    """Write a folder, whose annotations and images ``change`` may spoil before the annotations are saved."""
    for seed, split in enumerate(splits):
        folder, values = root / split, content(count)
        folder.mkdir(parents=True)
        rng = np.random.default_rng(seed)
        for image in values['images']:
            Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(folder / image['file_name'])
        change(values, folder)
        (root / f'{split}.json').write_bytes(encode(json.dumps(values)))
    return root


def config(root: Path, masks: bool = False, splits=('train',), **dataset: Any) -> Config:
    """Return a config that reads a folder."""
    names = dict(train='train', val='val', test='val')
    values: dict[str, Any] = dict(default_scope='mmdet')
    for split in splits:
        values[f'{split}_dataloader'] = dict(
            dataset=dict(
                type='CocoDataset',
                data_root=str(root),
                ann_file=f'{names[split]}.json',
                data_prefix=dict(img=f'{names[split]}/'),
                metainfo=dict(classes=('cat', 'dog')),
                test_mode=split != 'train',
                filter_cfg=dict(filter_empty_gt=True, min_size=32),
                pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=masks)],
            )
            | dataset
        )
        if split != 'train':
            metric = ['bbox', 'segm'] if masks else 'bbox'
            values[f'{split}_evaluator'] = dict(type='CocoMetric', ann_file=str(root / f'{names[split]}.json'), metric=metric)
    return Config(values)


def lines(root: Path, masks: bool = False, splits=('train',), full: bool = False, **dataset: Any) -> list[str]:
    """Return what the check finds in a folder, each with its level."""
    return [f'{finding.level}: {finding}' for finding in check_data(config(root, masks, splits, **dataset), splits, full)]


def each(kind: str, change: Callable[[dict], Any], only: Any = None) -> Change:
    """Return a change of all entries of a kind, or of one."""

    def changed(values: dict, folder: Path) -> None:
        for i, entry in enumerate(values[kind]):
            if only is None or i == only:
                change(entry)

    return changed


def put(kind: str, key: str, value: Any, only: Any = None) -> Change:
    """Return a change of a key's value, or by a function of the entry."""
    return each(kind, lambda entry: entry.update({key: value(entry) if callable(value) else value}), only)


def take(kind: str, key: str, only: Any = None) -> Change:
    """Return a change that removes a key."""
    return each(kind, lambda entry: entry.pop(key), only)
