"""Train and test in separate processes. A killed run resumes when the same command is called again."""

import errno
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import IO

from .records import read_metrics
from .results import COUNTS
from .running import Execute
from .tools import Tools
from .training import LOCK, LOG, Training, TrainingError

POLL = 1.0  # seconds


def require_posix() -> None:
    """Raise a ValueError where this module cannot run trainings, because a process cannot inherit a lock there."""
    try:
        import fcntl  # noqa: F401
    except ImportError:
        raise ValueError(
            'training several models needs Linux or macOS: on Windows, use WSL, or train each model with tools/train.py'
        ) from None


def complete(training: Training, tools: Tools, execute: Execute, stopped: Event) -> dict[str, float]:
    """Train and test, skipping the steps that are complete.

    If another process works on the same training, such as one whose parent was killed, wait until it ends.

    Args:
        training: The training.
        tools: The commands.
        execute: What runs a command.
        stopped: An event that ends the waiting.

    Returns:
        The metrics of the test.

    Raises:
        TrainingError: A command failed, or ``stopped`` ended the waiting.
        ValueError: The note is damaged or belongs to another config, or the folder holds other files.
    """
    training.folder.mkdir(parents=True, exist_ok=True)
    with _alone(training, stopped) as held:
        note = training.note()
        if not note:
            training.write_note()
        if 'seconds' not in note:
            resumed = training.has_checkpoints
            note = {'seconds': _run(training, tools.train(training), execute, held), 'resumed': resumed}
            training.write_note(**note)
        if 'metrics' not in note:
            _run(training, [*tools.test(training), str(training.checkpoint())], execute, held)
            note = {'seconds': note['seconds'], 'resumed': note['resumed'], 'metrics': _tested(training.folder)}
            if training.counted and not (training.folder / COUNTS).is_file():
                raise TrainingError(f'test.py left no {COUNTS} in {training.folder}: run the same command again to test again')
            training.write_note(**note)
    return note['metrics']


@contextmanager
def _alone(training: Training, stopped: Event) -> Iterator[int]:
    """Hold the lock of a training. Its processes inherit the lock, because they outlive a killed parent and still write to the folder."""
    with (training.folder / LOCK).open('wb') as file:
        if not _take_lock(file):
            print(f'waiting: another process is writing to {training.folder}', file=sys.stderr)
        while not _take_lock(file):
            if stopped.wait(POLL):
                raise TrainingError(f'another process is writing to {training.folder}')
        yield file.fileno()


def _take_lock(file: IO) -> bool:
    """Lock an open file, unless another process has locked it; processes to which the file is passed inherit the lock.

    Returns:
        False if another process holds the lock. True otherwise, also on a file system that does not support locks.
    """
    import fcntl  # missing on Windows

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True


def _run(training: Training, command: list[str], execute: Execute, held: int) -> float:
    """Run a command and return its duration in seconds."""
    log = training.folder / LOG
    start = time.perf_counter()
    code = execute(command, log, held)
    if code != 0:
        raise TrainingError(f'exit code {code}: {_last_words(log)} (all of it: {log})')
    return time.perf_counter() - start


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding='utf-8', errors='replace').splitlines() if log.is_file() else []
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else 'it printed nothing'


def _tested(folder: Path) -> dict[str, float]:
    """Return the metrics that mmengine wrote for the last test."""
    files = sorted(folder.glob('test/*/*.json'), key=lambda file: file.stat().st_mtime)
    if not files:
        raise TrainingError(f'test.py left no metrics in {folder / "test"}: run the same command again to test again')
    metrics = read_metrics(files[-1])
    if metrics is None:
        raise TrainingError(f'{files[-1]} is damaged or cannot be read: run the same command again to test again')
    return metrics
