"""What has to be trained for a table: each distinct training once, wherever it appears."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Optional

from mmdysample.catalogue.model_size import configs_folder
from mmdysample.engine.config import load_config
from mmdysample.engine.upsampler import use_upsampler
from mmdysample.paper.reader import TABLES, read_table
from mmdysample.paper.table import Row, Table

from .training import Training, digest

DATA = ('coco', 'shapes')


@dataclass(frozen=True, eq=False)
class Planned:
    """A row of a table, and its trainings, one for each seed; none where there is nothing to train."""

    row: Row
    config: str
    trainings: tuple[Training, ...]
    missing: str = ''


@dataclass(frozen=True)
class Settings:
    """What holds for every training.

    Args:
        data: One of ``DATA``.
        seeds: How many trainings a row gets, with the seeds from 0 on.
        out: The folder of all results.
        options: What was changed in every config.
        raw_options: The same as it was written on the command line.
    """

    data: str
    seeds: int
    out: Path
    options: Mapping[str, Any]
    raw_options: tuple[str, ...]


def plan(table: Table, settings: Settings, rows: Sequence[str] = ()) -> list[Planned]:
    """Plan the trainings of a table.

    Args:
        table: The table.
        settings: What holds for every training.
        rows: Names of rows; all by default.

    Returns:
        All of the rows asked for; one that cannot be trained says why.

    Raises:
        ImportError: The framework of a config is not installed.
        ValueError: There is no such row, or an option does not fit.
    """
    chosen = [table.row(name) for name in dict.fromkeys(rows)] if rows else table.rows
    return [_plan_row(row, settings) for row in chosen]


def _plan_row(row: Row, settings: Settings) -> Planned:
    if row.experiment is None or row.upsampler is None:
        return Planned(row, '', (), 'nothing to train here')
    config = row.experiment.configs.get(settings.data)
    if config is None:
        return Planned(row, '', (), f'no config for --data {settings.data}')
    path = configs_folder() / config
    if not path.is_file():
        return Planned(row, '', (), f'configs/{config} is not there yet')
    place = home(config, row.upsampler, settings.data)
    loaded = load_config(str(path), dict(settings.options))
    use_upsampler(loaded, row.upsampler, dict(settings.options))
    best = _tests_best(config, settings.data)
    trainings = []
    for seed in range(settings.seeds):
        loaded.randomness = {**(loaded.get('randomness') or {}), 'seed': seed}
        raw = (*settings.raw_options, f'randomness.seed={seed}')
        folder = place / f'seed{seed}'
        trainings.append(Training(_relative(path), row.upsampler, raw, settings.out / folder, digest(loaded), best, str(folder)))
    return Planned(row, config, tuple(trainings))


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def home(config: str, upsampler: str, data: str) -> Path:
    """Where a training lies: in the folder of the first row of all tables that asks for it, so that none is done twice."""
    table, row = _homes(data)[config, upsampler]
    return Path(folder_name(read_table(table), data)) / row


def _tests_best(config: str, data: str) -> bool:
    """The convention of the first table that trains the model, whatever the upsampler: the ablation holds models of two tables."""
    return next(read_table(table).best for (other, _), (table, _) in _homes(data).items() if other == config)


def folder_name(table: Table, data: str) -> str:
    """The name of a table's results: those of the miniature lie beside those of the paper's data."""
    both = any(len(experiment.configs) > 1 for experiment in table.experiments.values())
    return f'{table.name}_{data}' if both and data != 'coco' else table.name


@lru_cache
def _homes(data: str) -> dict[tuple[str, Optional[str]], tuple[str, str]]:
    homes: dict[tuple[str, Optional[str]], tuple[str, str]] = {}
    for name in TABLES:
        for row in read_table(name).rows:
            if row.experiment is not None and data in row.experiment.configs:
                homes.setdefault((row.experiment.configs[data], row.upsampler), (name, row.name))
    return homes
