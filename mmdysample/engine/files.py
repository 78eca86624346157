"""Write result files and lock work directories."""

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
    """Create and open a file before the work that fills it, and remove it if the work fails.

    Raises:
        ValueError: The file exists already.
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
    """Open a temporary file that is renamed to ``path`` when it is complete, and overwrites an existing file.

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
    """Lock a file, unless another process has locked it.

    Args:
        file: The open file. Closing it releases the lock.
        lock: ``fcntl.flock``, whose lock child processes inherit, or ``fcntl.lockf``, whose lock they do not.

    Returns:
        False if another process holds the lock. True otherwise, also on a file system that does not support locks.
    """
    try:
        lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True


def hold(folder: Path) -> None:
    """Lock a work directory against the trainings of other processes, for the lifetime of this process.

    Raises:
        ValueError: Another process holds the lock.
    """
    file = (folder / '.training').open('wb')
    # lockf, because data loader workers would inherit a flock and hold it for seconds after this process is killed.
    if not take_lock(file, fcntl.lockf):
        file.close()
        raise ValueError(f'another training writes to {folder}: wait until it has ended, or choose another --work-dir')
    _held.append(file)
