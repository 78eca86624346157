"""Fit DUpsampling's matrix to the label maps of a dataset, and measure how well it reconstructs them."""

from collections.abc import Iterable, Iterator
from typing import Any, Optional

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dataset import ConcatDataset
from mmengine.registry import init_default_scope
from torch import Tensor

from mmdysample.datasets.loading import build_dataset
from mmdysample.datasets.source import kind_of, leaves
from mmdysample.frameworks import require
from mmdysample.terminal.progress import progress

from .label_windows import fit_codes, reconstruct, window_matrix

require('mmseg', 'fitting DUpsample')

from mmseg.evaluation.metrics import IoUMetric  # noqa: E402

IGNORED = 255


def label_dataset(config: Config, split: str) -> Any:
    """Build the dataset of a split, which loads only label maps.

    Args:
        config: A config of mmsegmentation.
        split: ``'train'`` or ``'val'``.

    Raises:
        ValueError: The config has no such split, or loads no semantic label maps, or its data cannot be read.
    """
    loader = config.get(f'{split}_dataloader')
    if not loader:
        raise ValueError(f'{config.filename} has no {split}_dataloader')
    parts = []
    for dataset in leaves(loader):  # without wrappers such as RepeatDataset
        load = next((step for step in dataset.get('pipeline', []) if kind_of(step) == 'LoadAnnotations'), None)
        if config.get('default_scope') != 'mmseg' or load is None:
            raise ValueError(f'{config.filename} loads no semantic label maps: use a config of mmsegmentation')
        init_default_scope('mmseg')
        parts.append(build_dataset({**dataset, 'pipeline': [load], 'lazy_init': False}))
    return parts[0] if len(parts) == 1 else ConcatDataset(parts)


def label_maps(dataset: Any, label: str, order: Optional[np.ndarray] = None) -> Iterator[Tensor]:
    """Yield label maps ``(H, W)``, int64, in the order of the given indices."""
    indices: Iterable[int] = range(len(dataset)) if order is None else order
    for index in progress(indices, label):
        yield torch.from_numpy(np.ascontiguousarray(dataset[int(index)]['gt_seg_map'])).long()


def sample_windows(dataset: Any, scale_factor: int, count: int, seed: int = 0) -> Tensor:
    """Draw random windows of labels, the same number from each label map. Maps smaller than a window are skipped.

    Args:
        dataset: A dataset of :func:`label_dataset`.
        scale_factor: The size ``s`` of a window.
        count: The largest number of windows.
        seed: The seed of the random choice.

    Returns:
        ``(n, s, s)``, int64, with ``n <= count``.

    Raises:
        ValueError: No label map is as large as a window.
    """
    s, rng = scale_factor, np.random.default_rng(seed)
    order = rng.permutation(len(dataset))[:count]
    share = -(-count // max(1, len(order)))
    parts = []
    for labels in label_maps(dataset, 'reading label maps', order):
        height, width = labels.shape
        if height < s or width < s:
            continue
        windows = labels.unfold(0, s, 1).unfold(1, s, 1)
        row = torch.from_numpy(rng.integers(height - s + 1, size=share))
        column = torch.from_numpy(rng.integers(width - s + 1, size=share))
        parts.append(windows[row, column])
    if not parts:
        raise ValueError(f'no label map is as large as a window of {s}x{s}')
    return torch.cat(parts)[:count]


def fit_matrix(dataset: Any, scale_factor: int, channels: int, count: int, seed: int = 0) -> Tensor:
    """Fit ``W``, ``(num_classes*s*s, channels)``; see :func:`~mmdysample.engine.label_windows.fit_codes`."""
    windows = sample_windows(dataset, scale_factor, count, seed)
    torch.manual_seed(seed)
    return fit_codes(window_matrix(windows, scale_factor, len(dataset.metainfo['classes'])), channels)


def reconstruction_miou(dataset: Any, matrix: Tensor, scale_factor: int) -> dict[str, float]:
    """Return how well label maps are reconstructed by the fitted code, and by interpolation of downsampled labels.

    Args:
        dataset: A dataset of :func:`label_dataset`.
        matrix: ``W``, ``(num_classes*s*s, channels)``.
        scale_factor: The ratio ``s``.

    Returns:
        The mIoU with the labels, in percent, of three reconstructions: ``'argmax(W P v)'``; ``'nearest'``, which repeats every ``s``-th
        label; and ``'bilinear'``, which averages the one-hot labels of each window and interpolates.
    """
    num_classes = len(dataset.metainfo['classes'])
    decoders = {
        'argmax(W P v)': lambda labels: reconstruct(labels, matrix, scale_factor),
        'nearest': lambda labels: _nearest(labels, scale_factor),
        'bilinear': lambda labels: _bilinear(labels, scale_factor, num_classes),
    }
    areas = {name: torch.zeros(2, num_classes, dtype=torch.float64) for name in decoders}
    for labels in label_maps(dataset, 'decoding label maps'):
        labels = labels[: labels.shape[0] // scale_factor * scale_factor, : labels.shape[1] // scale_factor * scale_factor]
        for name, decode in decoders.items():
            intersection, union, _, _ = IoUMetric.intersect_and_union(decode(labels), labels, num_classes, IGNORED)
            areas[name] += torch.stack((intersection, union))
    return {name: float(100 * (area[0] / area[1])[area[1] > 0].mean()) for name, area in areas.items()}


def _nearest(labels: Tensor, s: int) -> Tensor:
    middle = labels[s // 2 :: s, s // 2 :: s]
    return middle.repeat_interleave(s, 0).repeat_interleave(s, 1)


def _bilinear(labels: Tensor, s: int, num_classes: int) -> Tensor:
    one_hot = torch.stack([labels == i for i in range(num_classes)]).float()[None]
    return F.interpolate(F.avg_pool2d(one_hot, s), scale_factor=s, mode='bilinear', align_corners=False).argmax(1)[0]
