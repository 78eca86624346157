"""What the label maps of a folder hold."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmdysample.terminal.progress import progress

from ..maps.class_counts import IGNORED
from ..maps.label_values import FAULTS, find_fault, read_label_map

MANY = 100  # label maps from which a progress bar shows how they are read, about a second
READ_AS = {-1: IGNORED, 65535: IGNORED}  # because mmseg keeps 8 bits


@dataclass
class LabelValues:
    """The values of some label maps.

    Args:
        pixels: The number of pixels of each value.
        example: A map that holds the value.
        read: The number of maps that were read.
        total: The number of maps.
    """

    pixels: Counter[int] = field(default_factory=Counter)
    example: dict[int, Path] = field(default_factory=dict)
    read: int = 0
    total: int = 0

    @property
    def used(self) -> set[int]:
        """The values except 255, which mmseg ignores."""
        return set(self.pixels) - {IGNORED}

    def share(self, value: int) -> float:
        """Return the fraction of the pixels that have a value."""
        return self.pixels[value] / max(sum(self.pixels.values()), 1)


def read_values(maps: Sequence[Path], total: int) -> LabelValues:
    """Read label maps.

    Args:
        maps: The files to read.
        total: The number of maps of which they are a sample.

    Raises:
        ValueError: A file is no image, or its values are not those of labels.
    """
    values = LabelValues(total=total)
    for path in progress(maps, 'label maps') if len(maps) >= MANY else maps:
        pixels = read_map(path)
        values.pixels.update(pixels)
        values.example = dict.fromkeys(pixels, path) | values.example
        values.read += 1
    return values


def read_map(path: Path) -> Counter[int]:
    """Return the number of pixels of each value of a label map.

    Raises:
        ValueError: The file is no image, or its values are not those of labels.
    """
    label, jpeg = read_label_map(path)
    if fault := find_fault(label, jpeg):
        raise ValueError(f'{path} is no label map ({fault[1]}): {FAULTS[fault[0]][1]}')
    # Sorting, as np.unique does, takes ten times as long as counting.
    values, counts = np.unique(label, return_counts=True) if label.itemsize > 1 else (range(256), np.bincount(label.ravel(), minlength=256))
    pixels: Counter[int] = Counter()
    for value, count in zip(values, counts.tolist()):
        if count:
            pixels[READ_AS.get(int(value), int(value))] += count
    return pixels
