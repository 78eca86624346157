"""Read depth maps as the pipeline of a dataset reads them, and collect what is wrong with them."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmengine import fileio
from mmengine.registry import TRANSFORMS

from mmdysample.terminal.progress import progress

from ..image_files import IMAGE_ENDINGS, check_pixels, spread
from .pairs import Pairs

LOADER = 'LoadDepthAnnotation'
LOOKED_AT = 24  # depth maps that are read before each training
KEPT = 1_000  # depths of each map


class DepthsSeen:
    """The depths of some maps.

    Args:
        pairs: The dataset.
        max_depth: The largest depth that the model predicts, in metres.
        full: Whether to read all maps.

    Attributes:
        count: How many maps were read.
        factor: What a stored value is multiplied with.
        depths: Known depths of all maps in metres, ``(N,)``, without those in ``marked``.
        marked: How many known depths are the largest value of their format, such as 65535, and larger than ``max_depth``.
        sizes: Width and height of each map.
        faults: For each fault, the maps that have it.
    """

    def __init__(self, pairs: Pairs, max_depth: float, full: bool) -> None:
        loader: Any = TRANSFORMS.build({**pairs.source.step(LOADER), '_scope_': pairs.source.config.get('default_scope')})
        self.factor = float(loader.depth_rescale_factor)
        self.count = self.marked = 0
        self.sizes: dict[str, tuple[int, int]] = {}
        self.faults: dict[str, list[str]] = defaultdict(list)
        depths = [np.zeros(0, np.float32)]
        names = [depth for _, depth in pairs.names]
        for name in progress(names, f'maps of {pairs.maps}') if full else spread(names, LOOKED_AT):
            if not (pairs.maps / name).is_file():
                continue
            self.count += 1
            try:
                stored = _decoded(pairs.maps / name, loader)
            except ValueError as error:
                self.faults['broken'].append(str(error))
                continue
            if stored.ndim != 2:
                self.faults['coloured'].append(f'{name}: {stored.shape[-1]} channels')
                continue
            self.sizes[name] = (stored.shape[1], stored.shape[0])
            for fault in _faults(stored):
                self.faults[fault].append(name)
            if np.issubdtype(stored.dtype, np.integer) and (mark := np.iinfo(stored.dtype).max) * self.factor > max_depth:
                self.marked += int((stored == mark).sum())
                stored = np.where(stored == mark, 0, stored)
            step = max(1, int((stored.size / KEPT) ** 0.5))
            values = stored[::step, ::step]
            values = values[np.isfinite(values) & (values > 0)]
            depths.append((values * self.factor).astype(np.float32))
        self.depths = np.concatenate(depths)


def _decoded(path: Path, loader: Any) -> np.ndarray:
    """Return the values of a depth map as they are stored.

    Raises:
        ValueError: The pipeline cannot read it.
    """
    from mmseg.utils import datafrombytes

    try:
        stored = datafrombytes(fileio.get(str(path), loader.backend_args), backend=loader.decode_backend)
        reason = None
    except Exception as error:  # each backend raises another type
        stored, reason = None, error
    if stored is None:
        if path.suffix.lower() in IMAGE_ENDINGS:
            check_pixels(path)  # its message says more
        raise ValueError(f'{path} cannot be decoded by {loader.decode_backend}') from reason
    return np.asarray(stored)


def _faults(stored: np.ndarray) -> Iterator[str]:
    if np.isinf(stored).any():
        yield 'infinite'
    if stored.dtype == np.uint8:
        yield 'coarse'
    if not (np.isfinite(stored) & (stored > 0)).any():
        yield 'unknown'
