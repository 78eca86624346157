"""Check the depth maps of depth estimation."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.config import Config

from ..findings import Finding, Level
from ..image_files import IMAGE_ENDINGS, listing
from ..source import SPLITS, Source, kind_of, last_head, options
from .depth_values import LOADER, DepthsSeen
from .pair_files import check_pair_files
from .pairs import Pairs

HEADS = ('DenseDepthHead', 'VPDDepthHead')
MAX_DEPTH = 10.0  # of these heads by default, in metres
FEW = 1 / 5  # of the range of the model, which sound data fills; in a wrong unit it fills far less, or more than all
MANY = 1 / 100  # depths beyond the range of the model
UNITS = {'metres': 1.0, 'centimetres': 1e-2, 'millimetres': 1e-3, '1/256 m': 1 / 256, '1/5000 m': 1 / 5000}
CROPPED = (640, 480)  # the size of NYU's images, for which 'nyu_crop' is made
CROP = (41, 45)  # its left and upper edge


def check_depth_maps(source: Source, full: bool) -> Iterator[Finding]:
    """Check the images and depth maps of a dataset in NYU's layout: whether all are there, and what depths the maps hold.

    Args:
        source: The dataset.
        full: Whether to read everything, or only what takes seconds.

    Yields:
        What is wrong.

    Raises:
        ValueError: mmseg refuses the dataset.
    """
    if not {'img_path', 'depth_map_path'} <= source.folders.keys():
        return
    yield from _mend_names(source)
    pairs = Pairs(source, 'depth_map_path', 'depth map', 'depth_map_suffix')
    yield from check_pair_files(pairs, full)
    if not source.step(LOADER):
        return
    max_depth = _max_depth(source.config)
    seen = DepthsSeen(pairs, max_depth, full)
    yield from _check_faults(pairs, seen)
    yield from _check_range(pairs, seen, max_depth)
    yield from _check_evaluation(pairs, seen)


def _mend_names(source: Source) -> Iterator[Finding]:
    """Make a dataset accept names without a digit, with which mmseg's NYUDataset fails."""
    folder = source.folders['img_path']
    names = sorted(name for name in listing(folder) if name.lower().endswith(IMAGE_ENDINGS))
    without = [name for name in names if not any(map(str.isdigit, name.split('/')[-1]))]
    if without and source.dataset.get('type') in ('NYUDataset', 'mmseg.NYUDataset'):
        source.update({'type': 'mmdysample.NYUDataset'})
        what = "names have no digit, which mmseg's NYUDataset needs"
        yield Finding('mended', folder, what, 'mmdysample.NYUDataset is used instead', len(without), without[0])


def _max_depth(config: Config) -> float:
    """Return the largest depth that the model predicts, in metres, or infinity if that is not known."""
    head = last_head(config)
    known = kind_of(head) in HEADS
    return float(head.get('max_depth', MAX_DEPTH if known else math.inf))


def _check_faults(pairs: Pairs, seen: DepthsSeen) -> Iterator[Finding]:
    """Find maps that are not depth maps, or hold no depth."""
    maps = f'of {seen.count} depth maps' + ('' if seen.count == len(pairs.names) else ' looked at')
    right = 'save the depths themselves as 16-bit PNG files of one channel, in millimetres, with 0 for unknown'
    backend = f'{pairs.source.place(LOADER)}.decode_backend'
    readable = pairs.source.options({backend: 'numpy'}) if pairs.map_ending == '.npy' else 'repair or remove them'
    nothing = len(seen.faults['unknown']) == seen.count
    told: dict[str, tuple[Level, str, str]] = {
        'broken': ('error', 'cannot be read', readable),
        'coloured': ('error', 'are in colour', right),
        'coarse': ('warning', 'have 8 bits, and so at most 255 depths', right),
        'infinite': ('error', 'hold infinite depths', 'they make the weights NaN: save 0 for unknown'),
        'unknown': ('error' if nothing else 'warning', 'hold no known depth', 'nothing is learned from them, as 0 means unknown'),
    }
    for fault, (level, what, remedy) in told.items():
        if names := seen.faults[fault]:
            yield Finding(level, pairs.maps, f'{maps} {what}', remedy, len(names), names[0])


def _check_range(pairs: Pairs, seen: DepthsSeen, max_depth: float) -> Iterator[Finding]:
    """Find depths that the model cannot predict, or that are hardly more than nothing to it: those in another unit, as a rule."""
    factor = f'{pairs.source.place(LOADER)}.depth_rescale_factor'
    if seen.marked:
        what = f'depths beyond the {max_depth:g} m of the model are the largest number of their format'
        yield Finding('warning', pairs.maps, f'{what}, as if it meant unknown', 'only 0 means unknown: save 0 for them', seen.marked)
    if not len(seen.depths):
        return
    low, middle, high = (float(v) for v in np.percentile(seen.depths, (1, 50, 99)))
    beyond = float((seen.depths > max_depth).mean())
    if high > FEW * max_depth and beyond < MANY:
        return
    is_range = f'the depths lie between {low:.3g} and {high:.3g} m'
    fits = [(name, f'{f:g}') for name, f in UNITS.items() if FEW * max_depth <= high / seen.factor * f <= max_depth]
    unit, value = fits[0] if fits else ('another unit', 'METRES')
    option = pairs.source.options({factor: value})
    remedy = f'if they are stored in {unit}, set {option}; if they are right, change model.decode_head.max_depth'
    what = f'% of the depths are beyond the {max_depth:g} m of the model: {is_range} with depth_rescale_factor={seen.factor:g}'
    if beyond < MANY:
        what = f'% of the {max_depth:g} m of the model are used: {is_range} with depth_rescale_factor={seen.factor:g}'
    share = 100 * (beyond if beyond >= MANY else high / max_depth)
    yield Finding('error' if middle > max_depth else 'warning', pairs.maps, what, remedy, math.ceil(share))


def _check_evaluation(pairs: Pairs, seen: DepthsSeen) -> Iterator[Finding]:
    """Find depths that the evaluation leaves out, because of their values or of where they are."""
    metrics = dict(_metrics(pairs.source))
    for place, metric in metrics.items():
        least, most = metric.get('min_depth_eval', 0.0), metric.get('max_depth_eval', math.inf)
        if len(seen.depths) and not ((seen.depths > least) & (seen.depths < most)).any():
            what = f'depths lie between min_depth_eval={least:g} and max_depth_eval={most:g} of {place}'
            yield Finding('error', pairs.maps, what, f'they lie between {seen.depths.min():.3g} and {seen.depths.max():.3g} m', 0)
    crops = {f'{place}.crop_type': None for place, metric in metrics.items() if metric.get('crop_type') == 'nyu_crop'}
    other = [f'{name} of {w}x{h}' for name, (w, h) in seen.sizes.items() if (w, h) != CROPPED]
    if crops and other:
        gone = any(w <= CROP[0] or h <= CROP[1] for w, h in seen.sizes.values())
        what = f'depth maps are not of {CROPPED[0]}x{CROPPED[1]}, for which {next(iter(crops))}=nyu_crop is made'
        remedy = f'to evaluate whole maps, set {options(crops)}'
        yield Finding('error' if gone else 'warning', pairs.maps, what, remedy, len(other), other[0])


def _metrics(source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the metrics of depth that the maps are compared with, and their places in the config."""
    for split in SPLITS[1:]:
        evaluators = source.config.get(f'{split}_evaluator') or []
        if not any(place.startswith(f'{split}_dataloader') for place in source.places):
            continue
        several = isinstance(evaluators, (list, tuple))
        for i, metric in enumerate(evaluators if several else [evaluators]):
            if str(metric.get('type')).endswith('DepthMetric'):
                yield f'{split}_evaluator' + (f'.{i}' if several else ''), metric
