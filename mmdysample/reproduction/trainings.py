"""Trainings in processes of their own, several at a time; killed at any moment, the same call goes on.

Each has a folder, which holds what the tools write, the log of their processes, and a note: what is trained there, then how long
that took, and in the end the metrics. A training is complete when its note has these.
"""

import fcntl
import hashlib
import json
import math
import os
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Any, Optional

from mmengine.config import Config

from mmdysample.engine.checkpoint import checkpoints
from mmdysample.engine.files import take_lock

NOTE = 'training.json'
LOG = 'output.log'
LOCK = '.lock'
POLL = 1.0  # seconds


class TrainingError(Exception):
    """A training failed, or its test did; its text says where to read why."""


@dataclass(frozen=True)
class Training:
    """A config with an upsampler.

    Args:
        config: The config file.
        upsampler: What ``--upsampler`` is given.
        options: What ``--cfg-options`` is given.
        folder: Its work folder.
        digest: Of the content of the config with all of this.
        best: Whether the best checkpoint of its evaluations is tested, or the last one.
        label: What people call it, if not by its config and folder.
    """

    config: Path
    upsampler: str
    options: tuple[str, ...]
    folder: Path
    digest: str
    best: bool = False
    label: str = ''

    @property
    def name(self) -> str:
        """What people call it."""
        return self.label or f'{self.config.stem} {self.folder.name}'

    @property
    def tested(self) -> str:
        """A pattern of the names of checkpoints to test; ``last_checkpoint`` is a file that names one."""
        return 'best_*.pth' if self.best else 'last_checkpoint'

    def checkpoint(self) -> Path:
        """The checkpoint to test.

        Raises:
            TrainingError: There is none.
        """
        if self.best:
            found = max(self.folder.glob(self.tested), key=lambda file: file.stat().st_mtime, default=None)
        else:
            # Not what last_checkpoint says: a training that was killed before it was written has nothing left to write in it.
            found = next(iter(checkpoints(self.folder)), None)
        if found is None:
            raise TrainingError(f'{self.folder} holds no {self.tested if self.best else "checkpoint"}, which train.py should have left')
        return found

    def state(self) -> str:
        """How far it has come, and the time left, as its log says; empty before it says so."""
        log = self.folder / LOG
        if not log.is_file():
            return ''
        with log.open('rb') as file:
            file.seek(max(0, log.stat().st_size - 4096))
            tail = file.read().decode(errors='replace').rpartition('\n$ ')[2]  # of the last command
        lines = re.findall(r'(Epoch|Iter)\((train|test)\)\s+\[\s*([\d/]+)\].*?eta: ((?:\d+ days?, )?[\d:]+)', tail)
        if not lines:
            return ''
        unit, phase, count, left = lines[-1]
        return f'{phase if phase == "test" else unit.lower()} {count}, {left} left'

    def seconds_per_step(self) -> Optional[float]:
        """The median time of a training step, with its data, as the logs of all its runs have it."""
        lines = [line for log in self.folder.glob('*/vis_data/scalars.json') for line in log.read_text().splitlines()]
        entries = [json.loads(line) for line in lines if line.endswith('}')]  # that of a killed run may end within a line
        times = [entry['time'] for entry in entries if 'loss' in entry and 'time' in entry]
        return statistics.median(times) if times else None

    def note(self) -> dict[str, Any]:
        """What is known of it: nothing before it has begun.

        Raises:
            ValueError: The folder holds something else.
        """
        path = self.folder / NOTE
        if path.is_file():
            try:
                note = json.loads(path.read_text())
                found = note['digest']
            except (ValueError, TypeError, KeyError):
                raise ValueError(f'{path} is damaged: remove {self.folder}, or choose another --out') from None
            if found != self.digest:
                raise ValueError(
                    f'{self.folder} is of another state of {self.config} or of other --cfg-options: remove it, or choose another --out'
                )
            return note
        if self.folder.exists() and (not self.folder.is_dir() or {file.name for file in self.folder.iterdir()} - {LOCK, f'{NOTE}.tmp'}):
            raise ValueError(f'{self.folder} holds something else: choose another --out')
        return {}

    def write_note(self, **content: Any) -> None:
        """Write what is known of it, whole or not at all."""
        draft = self.folder / f'{NOTE}.tmp'
        draft.write_text(json.dumps({'config': str(self.config), 'upsampler': self.upsampler, 'digest': self.digest, **content}, indent=1))
        draft.replace(self.folder / NOTE)

    @property
    def has_checkpoints(self) -> bool:
        """Whether there is something to resume from."""
        return bool(checkpoints(self.folder))

    @property
    def minutes(self) -> str:
        """How long the training took, since it was resumed if it was (``>``)."""
        note = self.note()
        return ('>' if note['resumed'] else '') + f'{note["seconds"] / 60:.1f}' if 'seconds' in note else '-'

    def metric(self, name: str) -> Optional[float]:
        """What the test found, by the last part of its name; None before that, and where there was nothing to be found."""
        found = {key.split('/')[-1]: value for key, value in (self.metrics or {}).items()}.get(name)
        # mmdet finds nothing where no detection reaches the score threshold, and -1 or NaN where there is nothing to be found.
        return None if found is None or math.isnan(found) or found < 0 else found

    @property
    def metrics(self) -> Optional[dict[str, float]]:
        """What the test found, once all is done."""
        return self.note().get('metrics')


def digest(config: Config) -> str:
    """A short text that is another for another content."""
    return hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True, default=str).encode()).hexdigest()[:16]


# From a command, the file that takes its output, and a file to be held open while it runs, to the exit code.
Execute = Callable[[Sequence[str], Path, int], int]


def execute(command: Sequence[str], log: Path, held: int) -> int:
    """Run a command with its output in a file."""
    with log.open('a') as file:
        print(f'$ {shlex.join(command)}', file=file, flush=True)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, pass_fds=[held], check=False)
    return done.returncode


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES names; nothing where it is not set."""
    return [name for name in os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',') if name]


class Tools:
    """The commands that train and test.

    Args:
        folder: Of the tools.
        threads: How many threads each process shall compute with, unless OMP_NUM_THREADS says so already.
        gpus: The numbers of the GPUs to use, by a process each; by default, what is there. Where CUDA_VISIBLE_DEVICES is set, as a
            scheduler does, they count what it names.
    """

    def __init__(self, folder: Path, threads: int, gpus: Sequence[int] = ()) -> None:
        self.folder = folder
        self.threads = os.environ.get('OMP_NUM_THREADS', str(threads))
        self.gpus = tuple(gpus)

    def train(self, training: Training) -> list[str]:
        """The command that trains, from the beginning or on from the last complete checkpoint."""
        options = ['--cfg-options', *training.options] if training.options else []
        resume = ['--resume'] if training.has_checkpoints else []
        arguments = ['--upsampler', training.upsampler, '--work-dir', str(training.folder)]
        return [*self._command(training.config), *arguments, *resume, *options]

    def test(self, training: Training) -> list[str]:
        """The command that tests, but for the checkpoint: the saved config knows the upsampler and the options."""
        saved = str(training.folder / training.config.name)
        return [*self._environment(self.gpus[:1]), *self._python('test.py'), '--work-dir', str(training.folder), saved]

    def _command(self, config: Path) -> list[str]:
        if len(self.gpus) < 2:
            return [*self._environment(self.gpus), *self._python('train.py'), str(config)]
        # Trainings beside this one have other ports, those of other jobs on the machine too: each of these counts its GPUs from 0.
        job = int(os.environ.get('SLURM_JOB_ID', 0)) % 1000
        own = [f'PYTHON={sys.executable}', f'PORT={29500 + 16 * job + self.gpus[0]}']
        return [*self._environment(self.gpus), *own, 'bash', str(self.folder / 'dist_train.sh'), str(config), str(len(self.gpus))]

    def _environment(self, gpus: Sequence[int]) -> list[str]:
        given = visible_gpus()
        names = [given[gpu] if given else str(gpu) for gpu in gpus]
        return ['env', f'OMP_NUM_THREADS={self.threads}', *([f'CUDA_VISIBLE_DEVICES={",".join(names)}'] if names else [])]

    def _python(self, tool: str) -> list[str]:
        return [sys.executable, '-W', 'ignore', str(self.folder / tool)]


def complete(training: Training, tools: Tools, execute: Execute = execute, stopped: Optional[Event] = None) -> dict[str, float]:
    """Train and test, as far as that has not been done.

    A process that is at it already, as one whose parent was killed, is waited for.

    Args:
        training: What to train.
        tools: The commands.
        execute: What runs them.
        stopped: What ends the waiting, if anything does.

    Returns:
        The metrics.

    Raises:
        TrainingError: A command failed, or the waiting was ended.
        ValueError: The folder holds something else.
    """
    training.folder.mkdir(parents=True, exist_ok=True)
    with _alone(training, stopped or Event()) as held:
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
            training.write_note(**note)
    return note['metrics']


@contextmanager
def _alone(training: Training, stopped: Event) -> Iterator[int]:
    """Hold a lock, which the processes inherit: one that outlives a killed parent goes on writing to the folder."""
    with (training.folder / LOCK).open('w') as file:
        if not take_lock(file, fcntl.flock):
            print(f'waiting: another process is writing to {training.folder}', file=sys.stderr)
        while not take_lock(file, fcntl.flock):
            if stopped.wait(POLL):
                raise TrainingError(f'another process is writing to {training.folder}')
        yield file.fileno()


def _run(training: Training, command: list[str], execute: Execute, held: int) -> float:
    """Run a command, and return how many seconds it took."""
    log = training.folder / LOG
    start = time.perf_counter()
    code = execute(command, log, held)
    if code != 0:
        raise TrainingError(f'exit code {code}: {_last_words(log)} (all of it: {log})')
    return time.perf_counter() - start


def _last_words(log: Path) -> str:
    lines = log.read_text(errors='replace').splitlines() if log.is_file() else []
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else 'it printed nothing'


def _tested(folder: Path) -> dict[str, float]:
    """What mmengine wrote down of the last test."""
    files = sorted(folder.glob('test/*/*.json'), key=lambda file: file.stat().st_mtime)
    if not files:
        raise TrainingError(f'test.py left no metrics in {folder / "test"}')
    return {key: value for key, value in json.loads(files[-1].read_text()).items() if isinstance(value, (int, float))}


def complete_all(
    trainings: Sequence[Training],
    lanes: Sequence[Tools],
    execute: Execute = execute,
    running: Optional[list[Training]] = None,
    began: Callable[[Training], None] = lambda training: None,
) -> Iterator[tuple[Training, Optional[Exception]]]:
    """Train and test each, one at a time in each lane; one that fails keeps no other from going on.

    Args:
        trainings: What to train.
        lanes: The commands, as many as there shall be trainings at a time.
        execute: What runs the commands.
        running: A list that shall hold those that have begun and not ended.
        began: Is told of each that begins.

    Yields:
        Each when it has ended, with what went wrong.
    """
    running = [] if running is None else running
    free: SimpleQueue[Tools] = SimpleQueue()
    stopped = Event()
    for tools in lanes:
        free.put(tools)

    def complete_one(training: Training) -> None:
        tools = free.get()
        running.append(training)
        began(training)
        try:
            complete(training, tools, execute, stopped)
        finally:
            running.remove(training)
            free.put(tools)

    pool = ThreadPoolExecutor(len(lanes))
    try:
        futures: dict[Future, Training] = {pool.submit(complete_one, training): training for training in trainings}
        for future in as_completed(futures):
            error = future.exception()
            if error is not None and not isinstance(error, (TrainingError, ValueError, OSError)):
                raise error
            yield futures[future], error
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)
