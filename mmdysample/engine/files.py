"""Files of results."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

_held: list[BinaryIO] = []


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


def take_lock(file: IO, lock: Callable[[IO, int], object]) -> bool:
    """Lock a file, unless another process has done so.

    Args:
        file: Held open for as long as the lock is to be held.
        lock: ``fcntl.flock``, which the children of a process inherit, or ``fcntl.lockf``, which they do not.

    Returns:
        Whether no other process has it; true, too, on a file system without locks, where nobody can know.
    """
    try:
        lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True


def hold(folder: Path) -> None:
    """Keep the trainings of other processes out of a folder, for as long as this one lives.

    Raises:
        ValueError: Another one holds it.
    """
    file = (folder / '.training').open('wb')
    # Not flock: the workers of a data loader would hold it for seconds after this process was killed.
    if not take_lock(file, fcntl.lockf):
        file.close()
        raise ValueError(f'another training writes to {folder}: wait until it has ended, or choose another --work-dir')
    _held.append(file)
