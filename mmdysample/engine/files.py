"""Files of results."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that does not exist yet before the work that fills it; remove it if the work fails.

    Raises:
        ValueError: The file exists.
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = path.open('xb')
    except FileExistsError:
        raise ValueError(f'{path} exists: remove it, or choose another --out') from None
    try:
        with file:
            yield file
    except BaseException:
        path.unlink()
        raise


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that has its name only once it is complete, in the place of one that has it now.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        with part.open('xb') as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
