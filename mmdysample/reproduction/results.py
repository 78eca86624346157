"""Results that are kept beside the code: a line for each row and seed of a table, and a file with the counts of each image.

A training whose line is there is not done again, on whatever machine. A line says what was trained (a hash of the parts of the config that
decide the result, without the paths of a machine) and with what.
"""

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Optional

from mmengine.config import Config

RECIPE = (
    *('model', 'train_dataloader', 'test_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'randomness'),
    *('custom_hooks', 'load_from', 'auto_scale_lr', 'test_cfg', 'test_evaluator'),
)
PATHS = ('data_root', 'ann_file', 'checkpoint', 'load_from')
ORIGIN = ('device', 'threads', 'versions', 'revision')
ABOUT = ('row', 'seed', 'recipe', 'date', 'minutes', 's a step', *ORIGIN)
TIMES = ('time', 'data_time')  # of the test, which mmengine writes among the metrics
COUNTS = 'counts.csv'
LIBRARIES = ('torch', 'numpy', 'mmengine', 'mmcv', 'mmdet', 'mmseg')


@dataclass(frozen=True)
class Result:
    """A line: the metrics of a test by name, the median time in seconds of a training step, and what it was trained with."""

    metrics: Mapping[str, float]
    seconds_per_step: Optional[float]
    origin: Mapping[str, str]


@dataclass(frozen=True)
class Place:
    """The place of the result of a training.

    Args:
        file: The CSV file of the table.
        row: The name of the row.
        seed: The seed of the training.
        recipe: The :func:`recipe` of its config.
    """

    file: Path
    row: str
    seed: int
    recipe: str

    @property
    def counts(self) -> Path:
        """The file with the counts of each image."""
        return self.file.with_suffix('') / f'{self.row}-seed{self.seed}-{self.recipe}.csv'

    def read(self) -> Optional[Result]:
        """Return the result; None if there is none of this recipe.

        Raises:
            ValueError: The file cannot be read or is damaged.
        """
        line = next((line for line in read_lines(self.file) if self._is_mine(line)), None)
        if line is None:
            return None
        metrics = {name: float(value) for name, value in line.items() if name not in ABOUT and value}
        step = float(line['s a step']) if line['s a step'] else None
        return Result(metrics, step, {name: line[name] for name in ORIGIN})

    def keep(self, folder: Path, metrics: Mapping[str, float], minutes: str, seconds_per_step: Optional[float]) -> None:
        """Append the line, unless it is there, and copy the counts. Several processes may do so.

        Args:
            folder: The work folder of the training.
            metrics: The metrics of the test.
            minutes: The duration of the training.
            seconds_per_step: The median time of a training step.

        Raises:
            OSError: A file cannot be written.
            ValueError: The file is damaged, or holds other metrics.
        """
        if self.read() is not None or not metrics.keys() - set(TIMES):  # a detector that found nothing has no metrics
            return
        import fcntl  # missing on Windows, where nothing is trained

        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open('a', newline='', encoding='utf-8') as file:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if self.read() is None:
                self._append(file, folder, metrics, minutes, seconds_per_step)

    def _append(self, file: IO, folder: Path, metrics: Mapping[str, float], minutes: str, seconds_per_step: Optional[float]) -> None:
        if (folder / COUNTS).is_file():
            self.counts.parent.mkdir(exist_ok=True)
            shutil.copyfile(folder / COUNTS, self.counts)
        about = {'row': self.row, 'seed': self.seed, 'recipe': self.recipe, 'date': date.today().isoformat(), 'minutes': minutes}
        step = '' if seconds_per_step is None else f'{seconds_per_step:.3f}'
        found = {name: metrics[name] for name in sorted(metrics) if name not in TIMES}
        line = {**about, 's a step': step, **_provenance(folder), **found}
        others = list(read_lines(self.file))
        if others and list(others[0]) != list(line):
            raise ValueError(f'{self.file} has other columns than this result: name another folder with --results')
        writer = csv.DictWriter(file, list(line), lineterminator='\n')
        if not others:
            writer.writeheader()
        writer.writerow(line)
        file.flush()  # before the lock is released

    def _is_mine(self, line: Mapping[str, str]) -> bool:
        return (line['row'], line['seed'], line['recipe']) == (self.row, str(self.seed), self.recipe)


def read_lines(file: Path) -> list[dict[str, str]]:
    """Return the lines of a file of results; none if there is no file.

    Raises:
        ValueError: It cannot be read or is damaged.
    """
    try:
        state = file.stat()
        return list(_read_lines(file, state.st_mtime_ns, state.st_size))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ValueError(f'{file} cannot be read ({error}): repair it, or name another folder with --results') from None


@lru_cache
def _read_lines(file: Path, changed: int, size: int) -> list[dict[str, str]]:
    try:
        text = file.read_bytes().decode('utf-8')
        lines = list(csv.DictReader(io.StringIO(text, newline='')))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f'{file} cannot be read ({error}): repair it, or name another folder with --results') from None
    for number, line in enumerate(lines, start=2):
        if None in line or None in line.values() or not set(ABOUT) <= set(line) or not _has_numbers(line):
            raise ValueError(f'{file}, line {number}, is damaged: remove it, or name another folder with --results')
    if text and not text.endswith('\n'):  # the last number may have lost digits
        raise ValueError(f'{file}, line {len(lines) + 1}, is cut off: remove it, or name another folder with --results')
    return lines


def _has_numbers(line: Mapping[str, str]) -> bool:
    try:
        for name, value in line.items():
            if value and (name == 's a step' or name not in ABOUT):
                float(value)
    except ValueError:
        return False
    return True


def stale(file: Path, places: list[Place]) -> int:
    """Return the number of lines for the rows and seeds of some places that are of another recipe."""
    mine = {(place.row, str(place.seed)): place.recipe for place in places}
    return sum(mine.get((line['row'], line['seed']), line['recipe']) != line['recipe'] for line in read_lines(file))


def recipe(config: Config, gpus: int = 1) -> str:
    """Return a short hash of what decides the result, without the paths of a machine.

    Of pretrained weights and annotations, the name of the file counts, and not its folder.

    Args:
        config: The config.
        gpus: Number of GPUs of the training, each with the batch of the config.
    """
    parts = _without_folders(Config({key: config.get(key) for key in RECIPE}).to_dict())
    if gpus > 1:
        parts['gpus'] = gpus
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _without_folders(part: Any, key: str = '') -> Any:
    """Return a part of a config with the names of files in place of their paths, and without the folder of the data."""
    if isinstance(part, dict):
        return {name: _without_folders(value, name) for name, value in part.items()}
    if isinstance(part, (list, tuple)):
        return [_without_folders(value) for value in part]
    if key in PATHS and isinstance(part, str):
        return '' if key == 'data_root' else Path(part).name
    return part


def _provenance(folder: Path) -> dict[str, Any]:
    """Return on what the last part of a training ran."""
    try:
        run = json.loads((folder / 'provenance.json').read_text(encoding='utf-8'))['runs'][-1]
    except (OSError, ValueError, LookupError, TypeError):
        run = {}
    versions = run.get('versions', {})
    names = ' '.join(f'{name} {versions[name]}' for name in LIBRARIES if name in versions)
    return {'device': run.get('device', ''), 'threads': run.get('threads', ''), 'versions': names, 'revision': run.get('revision') or ''}
