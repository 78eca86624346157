"""Write result files and lock work directories."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

LOCK = '.training'
UNSUPPORTED = errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP  # by the file system
# The locks of this process, by file, and those files among them that it has created.
_held: dict[Path, FileLock] = {}
_created: set[Path] = set()


def check_out(path: Path, force: bool, name: str = '--out') -> None:
    """Check, before the work that ends in a file, that the file can be written and does not overwrite another by mistake.

    Args:
        path: The file.
        force: Whether an existing file may be overwritten.
        name: The argument that names the file.

    Raises:
        ValueError: It is a folder, lies in a file, may not be written, or exists although ``force`` is off.
    """
    if path.is_dir():
        raise ValueError(f'{name} must be a file, got the folder {path}')
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise ValueError(f'{name} cannot be saved in {parent}, which is a file')
    if path.exists() and not force:
        raise ValueError(f'{path} exists: choose another {name}, or overwrite it with --force')
    for place in (parent, path) if path.exists() else (parent,):
        if not os.access(place, os.W_OK):
            raise ValueError(f'{name} {path} cannot be written: permission denied for {place}')


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


def write_through(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk.

    A file system that does not support this is no reason not to write.

    Raises:
        OSError: The disk is full or fails.
    """
    if path.is_dir() and os.name == 'nt':  # it does not open folders
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, *UNSUPPORTED):
            raise
    finally:
        os.close(descriptor)


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


def hold(folder: Path) -> None:
    """Lock a work directory against the trainings of other processes, for the lifetime of this process.

    A file system that does not support locks is no reason not to train: there, nothing is locked.

    Raises:
        ValueError: Another process holds the lock.
        OSError: The file of the lock cannot be written.
    """
    path = (folder / LOCK).resolve()
    is_new = not path.exists()
    # A soft lock would outlive a training that is killed, and refuse to resume it on another machine.
    lock = _held.setdefault(path, FileLock(path, fallback_to_soft=False))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(f'another training writes to {folder}: wait until it has ended, or choose another --work-dir') from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, *UNSUPPORTED):
            raise
    else:
        _created.update({path} if is_new else ())


def give_up(folder: Path) -> None:
    """Unlock a work directory, and remove the file of the lock if this process has created it."""
    path = (folder / LOCK).resolve()
    lock = _held.pop(path, None)
    if lock is None or not lock.is_locked:
        return
    if path in _created:
        _created.remove(path)
        with suppress(OSError):  # Windows does not remove open files
            path.unlink()  # while it is locked, so that no other process can lock it in between
    lock.release()
