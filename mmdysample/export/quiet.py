"""Silence exporters and runtimes."""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Silence the exporters' output except errors. C++ code prints, for example, a graph of thousands of lines."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _without_descriptor(1), _without_descriptor(2):
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _without_descriptor(number: int) -> Iterator[None]:
    kept = os.dup(number)
    with open(os.devnull, 'wb') as nowhere:
        os.dup2(nowhere.fileno(), number)
    try:
        yield
    finally:
        os.dup2(kept, number)
        os.close(kept)
