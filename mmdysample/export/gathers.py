"""Export sampling as gathers, for runtimes whose GridSample is wrong or missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from mmdysample.functional.capture import GATHERS_ONLY


@contextmanager
def without_grid_sample() -> Iterator[None]:
    """Make exporters record gathers instead of GridSample.

    ::

        with mmdysample.export.without_grid_sample():
            torch.onnx.export(...)

    It applies to the current thread, and to exporters that run the model. ``torch.compile``, and ``torch.export`` with ``strict=True``,
    ignore it, because they analyse the code instead.
    """
    token = GATHERS_ONLY.set(True)
    try:
        yield
    finally:
        GATHERS_ONLY.reset(token)
