"""Run commands in sessions of their own, and end them together with the processes that they started."""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from shutil import which
from threading import Lock
from typing import Protocol

from .training import TrainingError

PATIENCE = 10.0  # seconds in which a command may end by itself
PROC = Path('/proc')  # Linux; small containers lack ``ps``


class Execute(Protocol):
    """What runs the commands of trainings, several at a time."""

    def __call__(self, command: Sequence[str], log: Path, held: int) -> int:
        """Run a command, append its output to a file and return the exit code; the process inherits the descriptor ``held``."""
        ...

    def end(self) -> None:
        """End the commands that run, and start no other one."""
        ...


class Processes:
    """Processes that run commands.

    The terminal and ``kill`` signal this process alone, which then decides what becomes of the others. If it is killed itself, they go on.
    """

    def __init__(self) -> None:
        self._running: set[subprocess.Popen] = set()
        self._ended = False
        self._lock = Lock()  # so that no command starts beside :meth:`end`

    def __call__(self, command: Sequence[str], log: Path, held: int) -> int:
        """Run a command, append its output to a file and return the exit code; the process inherits the descriptor ``held``.

        Raises:
            TrainingError: :meth:`end` was called before.
        """
        with log.open('a', encoding='utf-8') as file:
            with self._lock:
                if self._ended:
                    raise TrainingError('not started, because of an interruption')
                print(f'$ {shlex.join(command)}', file=file, flush=True)
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, pass_fds=[held], start_new_session=True
                )
                self._running.add(process)
            try:
                return process.wait()
            finally:
                self._running.remove(process)

    def end(self) -> None:
        """Send SIGTERM to the commands that run, and kill what is left of them after ``PATIENCE``, or as soon as this raises an error."""
        groups: set[int] = set()
        try:
            with self._lock:
                self._ended = True
            for process in list(self._running):
                groups |= process_groups(process.pid)
                process.terminate()
            deadline = time.monotonic() + PATIENCE
            while self._running and time.monotonic() < deadline:
                time.sleep(0.02)
        finally:
            for process in list(self._running):
                groups |= process_groups(process.pid)
            for group in groups:
                with suppress(ProcessLookupError, PermissionError):  # macOS: a group of zombies
                    os.killpg(group, signal.SIGKILL)


def process_groups(leader: int) -> set[int]:
    """Return the process groups of the leader of a group and of its descendants. torchrun starts each process in a group of its own."""
    family, groups = {leader}, {leader}
    processes = list(_processes())
    while grown := {(pid, group) for pid, parent, group in processes if parent in family and pid not in family}:
        family |= {pid for pid, _ in grown}
        groups |= {group for _, group in grown}
    return groups


def _processes() -> Iterator[tuple[int, int, int]]:
    """Yield process, parent and process group of all processes."""
    if not (PROC / 'self/stat').exists():
        if which('ps') is None:  # what started these processes can then only be ended without its descendants
            return
        columns = [part for name in ('pid', 'ppid', 'pgid') for part in ('-o', f'{name}=')]
        for line in subprocess.check_output(['ps', '-A', *columns], text=True).splitlines():
            pid, parent, group = map(int, line.split())
            yield pid, parent, group
        return
    for path in PROC.glob('[0-9]*/stat'):
        with suppress(OSError):  # it has ended
            fields = path.read_text(encoding='utf-8', errors='replace').rpartition(')')[2].split()
            yield int(path.parent.name), int(fields[1]), int(fields[2])
