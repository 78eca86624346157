"""Read label maps as the pipeline of a dataset reads them, and collect what is wrong with their values."""

import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any, Optional

import numpy as np
from mmengine.registry import TRANSFORMS

from mmdysample.terminal.progress import progress

from ..image_files import check_pixels, spread
from .class_counts import IGNORED
from .pairs import Pairs

JPEG = b'\xff\xd8'
LOOKED_AT = 24  # maps that are read before each training
MOST_PIXELS = 48_000_000  # read before each training, about a second
# What is wrong with a map, and what to do.
FAULTS = {
    'broken': ('cannot be read', 'repair or remove them'),
    'lossy': ('are JPEG files', 'their compression changes labels: save the maps as PNG, from the labels and not from these files'),
    'fractions': ('hold fractions', 'each pixel of a label map must hold the index of a class'),
    'large': ('hold values beyond 0 to 255', 'mmseg keeps only the lowest eight bits of a label: number the classes from 0 or 1'),
    'equal': ('are in colour', 'a label map has one channel: keep only the first, as the others are equal to it or are transparency'),
    'coloured': (
        'are in colour',
        'a label map has one channel with the index of the class of each pixel: translate each colour into an index',
    ),
}


def read_label_map(path: Path, backend: str = 'pillow', backend_args: Optional[dict[str, Any]] = None) -> tuple[np.ndarray, bool]:
    """Read a label map as mmseg does.

    Args:
        path: The file.
        backend: mmcv's backend. The default is that of mmseg's ``LoadAnnotations``.
        backend_args: The arguments of mmengine's file client.

    Returns:
        The values as they are stored, ``(H, W)``, or with more axes if the map is in colour, and whether the file is a JPEG file.

    Raises:
        ValueError: The map cannot be read.
    """
    import mmcv
    from mmengine import fileio

    try:
        content = fileio.get(str(path), backend_args=backend_args)
        stored = mmcv.imfrombytes(content, flag='unchanged', backend=backend)
    except Exception as error:  # each backend of mmcv raises another type
        check_pixels(path)  # its message says more
        raise ValueError(f'{path} cannot be decoded by {backend}') from error
    if stored is None:
        raise ValueError(f'{path} cannot be decoded by {backend}')
    return stored.squeeze(), content.startswith(JPEG)


def find_fault(stored: np.ndarray, jpeg: bool) -> Optional[tuple[str, str]]:
    """Return the key in ``FAULTS`` for a map whose values are not those of labels, and which they are and where, or None."""
    if stored.ndim != 2:
        count = stored.shape[-1]
        same = stored.ndim == 3 and (count == 2 or (stored[..., :1] == stored[..., :3]).all())  # of two, the second is transparency
        return ('equal' if same else 'coloured'), f'{count} {"equal " if same and count > 2 else ""}channels'
    if jpeg:
        return 'lossy', 'a JPEG file'
    if stored.dtype == np.uint8 or stored.dtype == bool:
        return None
    broken = stored != np.floor(stored)  # True for NaN as well
    if broken.any():
        return 'fractions', f'{stored[broken][0]:.3g} at {_where(broken)}'
    large = ((stored < 0) | (stored > IGNORED)) & (stored != -1) & (stored != 65535)  # these two are read as 255
    return ('large', f'{stored[large][0]:.0f} at {_where(large)}') if large.any() else None


class LabelReader:
    """Read label maps with the backend of the pipeline's ``LoadAnnotations``.

    Args:
        pairs: The dataset.

    Attributes:
        reduces: Whether label 0 is ignored and the others are lowered by one.
        contradicts: Whether the dataset says otherwise, which mmseg refuses.
    """

    def __init__(self, pairs: Pairs) -> None:
        scope = pairs.source.config.get('default_scope')
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # mmseg warns of reduce_zero_label here, and again where the dataset is built
            loader: Any = TRANSFORMS.build({**pairs.source.step('LoadAnnotations'), '_scope_': scope})
        self.backend, self.backend_args = loader.imdecode_backend, loader.backend_args
        of_loader, of_dataset = (getattr(part, 'reduce_zero_label', None) for part in (loader, pairs.dataset))
        self.reduces = bool(of_dataset if of_loader is None else of_loader)
        self.contradicts = None not in (of_loader, of_dataset) and of_loader != of_dataset
        self.label_map: dict[int, int] = getattr(pairs.dataset, 'label_map', None) or {}

    def read(self, path: Path) -> tuple[np.ndarray, bool]:
        """Read a label map, as :func:`read_label_map` does, with the backend of the pipeline."""
        return read_label_map(path, self.backend, self.backend_args)

    def label(self, value: int) -> int:
        """Return the label that mmseg makes of a value from 0 to 255."""
        if self.reduces:
            value = IGNORED if value in (0, IGNORED) else value - 1
        return self.label_map.get(value, value)


class LabelsSeen:
    """The values of some label maps.

    Args:
        pairs: The dataset.
        reader: The reader of its label maps.
        classes: The number of its classes.
        ignored: The label that the model ignores.
        full: Whether to read all maps.

    Attributes:
        count: How many maps were read.
        pixels: How many of their pixels have each value, ``(256,)``.
        faults: For each fault, the maps that have it, with the value and where it is.
    """

    def __init__(self, pairs: Pairs, reader: LabelReader, classes: int, ignored: int, full: bool) -> None:
        self.count, self.pixels = 0, np.zeros(256, np.int64)
        self.faults: dict[str, list[str]] = defaultdict(list)
        labels = np.array([reader.label(value) for value in range(256)])
        used, beyond = labels < classes, (labels >= classes) & (labels != ignored)
        names = [label for _, label in pairs.names]
        read = 0
        for name in progress(names, f'maps of {pairs.maps}') if full else spread(names, LOOKED_AT):
            if not (pairs.maps / name).is_file() or (read > MOST_PIXELS and not full):
                continue
            self.count += 1
            try:
                stored, jpeg = reader.read(pairs.maps / name)
            except ValueError as error:
                self.faults['broken'].append(str(error))
                continue
            read += stored.size
            if fault := find_fault(stored, jpeg):
                self.faults[fault[0]].append(f'{name}: {fault[1]}')
                continue
            values = stored.astype(np.uint8)
            pixels = np.bincount(values.ravel(), minlength=256)
            self.pixels += pixels
            if wrong := np.flatnonzero(pixels * beyond).tolist():
                self.faults['beyond'].append(f'{name}: {wrong[0]} at {_where(values == wrong[0])}')
            elif not (pixels * used).any():
                self.faults['empty'].append(name)

    @property
    def values(self) -> list[int]:
        """The values that occur, without 255."""
        return np.flatnonzero(self.pixels[:IGNORED]).tolist()


def _where(mask: np.ndarray) -> str:
    y, x = np.argwhere(mask)[0]
    return f'x={x}, y={y}'
