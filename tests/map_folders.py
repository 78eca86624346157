"""Small folders of images with label maps or depth maps, and what the checks find in them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import numpy as np
from mmengine.config import Config
from PIL import Image

from mmdysample.datasets.check import check_data

SIZE = 24
Change = Callable[[Path, Path], Any]


def label(size: int = SIZE) -> np.ndarray:
    """Return a label map of 0 (unlabelled) and 1 to 5."""
    values = np.full((size, size), 4, np.uint8)
    values[size // 2 :], values[:2] = 5, 0
    values[2:4], values[4:6], values[6:8] = 1, 2, 3
    return values


def depth(size: int = SIZE) -> np.ndarray:
    """Return a depth map of 2 to 10 m in millimetres."""
    return np.repeat(np.linspace(10_000, 2_000, size)[:, None], size, 1).astype(np.uint16)


def write(root: Path, values: np.ndarray, splits: tuple[str, str], change: Change) -> None:
    """Write six images with maps for each split, ``root/images/{split}`` and ``root/annotations/{split}``, and change them."""
    for seed, split in enumerate(splits):
        folders = [root / kind / split for kind in ('images', 'annotations')]
        rng = np.random.default_rng(seed)
        for folder in folders:
            folder.mkdir(parents=True)
        for i in range(6):
            Image.fromarray(rng.integers(0, 255, (*values.shape, 3), dtype=np.uint8)).save(folders[0] / f'{i:03}.png')
            Image.fromarray(values).save(folders[1] / f'{i:03}.png')
        change(*folders)


def each(change: Callable[[np.ndarray], np.ndarray], only: Optional[int] = None) -> Change:
    """Return a change of the values of all maps, or of one."""

    def apply(images: Path, maps: Path) -> None:
        for i, path in enumerate(sorted(maps.iterdir())):
            if only in (None, i):
                Image.fromarray(change(np.array(Image.open(path)))).save(path)

    return apply


def rename(folder: int, ending: str, only: Optional[int] = None) -> Change:
    """Return a change of the endings of the images (0) or the maps (1)."""

    def apply(*folders: Path) -> None:
        for i, path in enumerate(sorted(folders[folder].iterdir())):
            if only in (None, i):
                path.rename(path.with_name(path.stem + ending))

    return apply


def found(config: Config, root: Path, splits: tuple[str, ...] = ('train',), full: bool = False) -> list[str]:
    """Return what the checks find, one line each, without the folder."""
    return [f'{finding.level}: {finding}'.replace(f'{root}/', '') for finding in check_data(config, splits, full)]


def read(config: str, root: Path, **options: Any) -> Config:
    """Return a config that reads a folder. ``__`` in the name of an option stands for a dot, ``data`` for the training dataset."""
    cfg = Config.fromfile(f'configs/{config}.py')
    cfg.pop('shapes', None)
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.data_root = str(root)
    cfg.merge_from_dict({name.replace('data__', 'train_dataloader.dataset.').replace('__', '.'): v for name, v in options.items()})
    return cfg
