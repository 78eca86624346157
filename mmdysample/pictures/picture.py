"""A picture: shown by a notebook, or saved to a file."""

from io import BytesIO
from pathlib import Path
from typing import Any, Union

import numpy as np
from matplotlib.figure import Figure

from mmdysample.engine.files import whole_file

FORMATS = ('.png', '.jpg', '.pdf', '.svg')
DPI = 130


class Picture(Figure):
    """A matplotlib figure that a notebook shows by itself, without pyplot, whose figures would pile up and be shown twice."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format='png', dpi=DPI)
        return buffer.getvalue()

    def save(self, path: Union[str, Path]) -> None:
        """Write a file, in the place of one of its name, and the folder that it goes to.

        Args:
            path: Ends in one of ``FORMATS``.

        Raises:
            ValueError: It ends otherwise.
        """
        check_format(path)
        kind = Path(path).suffix[1:].lower()
        options: dict[str, Any] = dict(pil_kwargs=dict(optimize=True)) if kind == 'png' else {}
        with whole_file(Path(path)) as file:
            self.savefig(file, format=kind, dpi=DPI, **options)


def check_format(path: Union[str, Path]) -> None:
    """Raise a ValueError for a file name that ends in none of ``FORMATS``."""
    if not str(path).lower().endswith(FORMATS):
        raise ValueError(f'--out must end in one of {", ".join(FORMATS)}, got {path}')


def extent(pixels: np.ndarray, stride: tuple[float, float] = (1.0, 1.0)) -> tuple[float, float, float, float]:
    """The ``extent`` for ``imshow`` that lets pixel ``j`` cover ``j`` to ``j + 1``, as coordinates do everywhere in this package.

    Args:
        pixels: ``(h, w, ...)``.
        stride: Pixels in a unit of the axes, x before y.
    """
    height, width = pixels.shape[:2]
    return 0, width / stride[0], height / stride[1], 0


def interpolation_of(pixels: np.ndarray) -> str:
    """The ``interpolation`` for ``imshow`` that keeps the pixels of a small image sharp, and a photo from aliasing."""
    return 'nearest' if max(pixels.shape[:2]) <= 256 else 'auto'
