"""A figure that a notebook shows and that can be saved to a file."""

from io import BytesIO
from pathlib import Path
from typing import Any, Union

import numpy as np
from matplotlib.figure import Figure

from mmdysample.engine.files import whole_file

FORMATS = ('.png', '.jpg', '.pdf', '.svg')
DPI = 130


class Picture(Figure):
    """A matplotlib figure that a notebook shows without pyplot; pyplot would keep all figures alive and show them twice."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format='png', dpi=DPI)
        return buffer.getvalue()

    def save(self, path: Union[str, Path]) -> None:
        """Save the figure, overwrite an existing file and create the folder if needed.

        Args:
            path: Path of the file; its suffix is one of ``FORMATS``.

        Raises:
            ValueError: The suffix is another.
        """
        check_format(path)
        kind = Path(path).suffix[1:].lower()
        options: dict[str, Any] = dict(pil_kwargs=dict(optimize=True)) if kind == 'png' else {}
        with whole_file(Path(path)) as file:
            self.savefig(file, format=kind, dpi=DPI, **options)


def check_format(path: Union[str, Path]) -> None:
    """Raise a ``ValueError`` if the suffix of a file is not in ``FORMATS``."""
    if not str(path).lower().endswith(FORMATS):
        raise ValueError(f'--out must end in one of {", ".join(FORMATS)}, got {path}')


def extent(pixels: np.ndarray, stride: tuple[float, float] = (1.0, 1.0)) -> tuple[float, float, float, float]:
    """Return the ``extent`` for ``imshow`` by which pixel ``j`` covers ``j`` to ``j + 1``, the convention of this package.

    Args:
        pixels: ``(h, w, ...)``.
        stride: Pixels per unit of the axes, ``(x, y)``.
    """
    height, width = pixels.shape[:2]
    return 0, width / stride[0], height / stride[1], 0


def interpolation_of(pixels: np.ndarray) -> str:
    """Return the ``interpolation`` for ``imshow``: sharp pixels for a small image, antialiasing for a large one."""
    return 'nearest' if max(pixels.shape[:2]) <= 256 else 'auto'
