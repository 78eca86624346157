"""The counts of each image of a test, from which its metrics follow, in a CSV file."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .boundary_iou import mean_iou

FORMS = ('mIoU', 'near_boundary_iou', 'boundary_iou')
PARTS = ('intersection', 'union')


@dataclass(frozen=True)
class ImageCounts:
    """The pixels in the intersection and in the union of prediction and truth.

    Args:
        images: The names of the images.
        classes: The names of the classes.
        counts: ``(images, 3, 2, classes)``, integer: plain, near boundaries, and of Boundary IoU, as in ``FORMS``; intersection and union.
    """

    images: tuple[str, ...]
    classes: tuple[str, ...]
    counts: np.ndarray

    def scores(self) -> dict[str, float]:
        """Return the metrics of all images together, in percent: ``FORMS``, and ``IoU.<class>``; NaN for a class that does not occur."""
        names = (*FORMS, *(f'IoU.{name}' for name in self.classes))
        return {name: float(self.score(name, self.counts.sum(0))) for name in names}

    def score(self, metric: str, totals: np.ndarray) -> np.ndarray:
        """Return a metric of summed counts.

        Args:
            metric: One of ``FORMS``, or ``IoU.<class>``.
            totals: ``(..., 3, 2, classes)``.

        Returns:
            ``(...)``, in percent.

        Raises:
            ValueError: There is no such metric.
        """
        if metric in FORMS:
            return 100 * mean_iou(totals[..., FORMS.index(metric), :, :])
        name = metric.removeprefix('IoU.')
        if name not in self.classes:
            raise ValueError(f'{metric} is not among {", ".join(FORMS)} and IoU of {", ".join(self.classes)}')
        index = self.classes.index(name)
        return 100 * mean_iou(totals[..., 0, :, index : index + 1])

    def write(self, path: Path) -> None:
        """Write a line for each image, and make the folder; a file is never left half written."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f'{path.name}.tmp')
        with draft.open('w', newline='', encoding='utf-8') as file:
            lines = csv.writer(file, lineterminator='\n')
            lines.writerow(_header(self.classes))
            lines.writerows([name, *counts.ravel()] for name, counts in zip(self.images, self.counts))
        draft.replace(path)

    @classmethod
    def read(cls, path: Path) -> 'ImageCounts':
        """Read a file that :meth:`write` wrote.

        Raises:
            OSError: It cannot be read.
            ValueError: It is damaged.
        """
        try:
            with path.open(newline='', encoding='utf-8') as file:
                header, *lines = csv.reader(file)
            last = [name.removesuffix('.union') for name in header if name.endswith('.union')]
            classes = tuple(name.removeprefix(f'{FORMS[0]}.') for name in last if name.startswith(f'{FORMS[0]}.'))
            counts = np.array([[int(cell) for cell in line[1:]] for line in lines])
            if not lines or header != _header(classes):
                raise ValueError
            return cls(tuple(line[0] for line in lines), classes, counts.reshape(len(lines), len(FORMS), len(PARTS), len(classes)))
        except (ValueError, csv.Error):
            raise ValueError(f'{path} is damaged') from None


def _header(classes: Sequence[str]) -> list[str]:
    return ['image', *(f'{form}.{name}.{part}' for form in FORMS for part in PARTS for name in classes)]
