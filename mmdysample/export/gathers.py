"""Export samples as gathers, for runtimes whose GridSample is wrong or missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from mmdysample.functional.capture import GATHERS_ONLY


@contextmanager
def without_grid_sample() -> Iterator[None]:
    """Let exporters record gathers in place of GridSample.

    ::

        with mmdysample.export.without_grid_sample():
            torch.onnx.export(...)

    This holds for the current thread, and for exporters that run the model: ``torch.compile``, and ``torch.export`` with ``strict=True``,
    read the code instead and ignore it.
    """
    token = GATHERS_ONLY.set(True)
    try:
        yield
    finally:
        GATHERS_ONLY.reset(token)
