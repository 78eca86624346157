"""Plan the trainings of a table. A training that several rows or tables share is planned in one folder, so that it runs once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Optional

from mmdysample.catalogue.model_size import configs_folder
from mmdysample.engine.config import load_config
from mmdysample.engine.upsampler import use_upsampler
from mmdysample.paper.reader import TABLES, read_table
from mmdysample.paper.table import Row, Table

from .results import Place, recipe
from .training import Training, digest

DATA = ('coco', 'shapes', 'nuclei')


@dataclass(frozen=True, eq=False)
class Planned:
    """A row of a table and its trainings, one per seed.

    Args:
        row: The row.
        config: The config below ``configs/``.
        trainings: The trainings; none if the row cannot be trained.
        missing: The reason why it cannot be trained.
        against: The row that it is compared with.
    """

    row: Row
    config: str
    trainings: tuple[Training, ...]
    missing: str = ''
    against: Optional['Planned'] = None

    @property
    def is_stock(self) -> bool:
        """True if its upsampler is the stock interpolation of its model."""
        return self.row.experiment is not None and self.row.upsampler == self.row.experiment.baseline


@dataclass(frozen=True)
class Settings:
    """The settings of all trainings.

    Args:
        data: One of ``DATA``.
        seeds: Number of trainings per row, with the seeds ``0`` to ``seeds - 1``.
        out: The folder of all results.
        options: The parsed ``--cfg-options``.
        raw_options: The same options as written on the command line.
        results: The folder where results are kept beside the code; None to keep them in ``out`` alone.
        gpus: Number of GPUs of each training.
    """

    data: str
    seeds: int
    out: Path
    options: Mapping[str, Any]
    raw_options: tuple[str, ...]
    results: Optional[Path] = None
    gpus: int = 1


def plan(table: Table, settings: Settings, rows: Sequence[str] = (), against: Optional[str] = None) -> list[Planned]:
    """Plan the trainings of a table.

    Args:
        table: The table.
        settings: The settings of all trainings.
        rows: Names of rows; by default, all.
        against: The name of the row that the others are compared with; by default, each row is compared with the stock interpolation of its
            model, if that is among ``rows``.

    Returns:
        The selected rows. A row that cannot be trained has the reason in ``missing``.

    Raises:
        ImportError: The framework of a config is not installed.
        ValueError: There is no such row, or a config has no place for an option.
    """
    chosen = [table.row(name) for name in dict.fromkeys(rows)] if rows else table.rows
    if against and table.row(against) not in chosen:
        raise ValueError(f'--against {against} is not among --rows {" ".join(rows)}: add it')
    planned = [_plan_row(table, row, settings) for row in chosen]
    return [replace(one, against=_partner(one, planned, against)) for one in planned]


def all_trainings(plans: Sequence[Planned]) -> list[Training]:
    """Return the trainings of all rows."""
    return [training for one in plans for training in one.trainings]


def _partner(one: Planned, planned: Sequence[Planned], against: Optional[str]) -> Optional[Planned]:
    """Return the row that a row is compared with, if that is another one."""
    same = [other for other in planned if other.row.experiment == one.row.experiment]
    found = next((other for other in same if (other.row.name == against if against else other.is_stock)), None)
    return None if found is one else found


def _plan_row(table: Table, row: Row, settings: Settings) -> Planned:
    if row.experiment is None or row.upsampler is None:
        return Planned(row, '', (), 'there is no model to train')
    config = row.experiment.configs.get(settings.data)
    if config is None:
        return Planned(row, '', (), f'no config for --data {settings.data}')
    path = configs_folder() / config
    if not path.is_file():
        return Planned(row, '', (), f'there is no configs/{config}')
    place = home(config, row.upsampler, settings.data)
    loaded = load_config(str(path), dict(settings.options))
    use_upsampler(loaded, row.upsampler, dict(settings.options))
    best = _tests_best(config, settings.data)
    evaluator = loaded.get('test_evaluator')
    counted = isinstance(evaluator, dict) and evaluator.get('type') == 'mmdysample.SegmentationMetric'
    trainings = []
    for seed in range(settings.seeds):
        loaded.randomness = {**(loaded.get('randomness') or {}), 'seed': seed}
        raw = (*settings.raw_options, f'randomness.seed={seed}')
        folder = place / f'seed{seed}'
        key = digest(loaded, settings.gpus)
        kept = Place(settings.results / f'{table.name}.csv', row.name, seed, recipe(loaded, settings.gpus)) if settings.results else None
        training = Training(
            _relative(path), row.upsampler, raw, settings.out / folder, key, best, str(folder), kept, counted, settings.gpus
        )
        trainings.append(training)
    return Planned(row, config, tuple(trainings))


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def home(config: str, upsampler: str, data: str) -> Path:
    """Return the folder of a training below ``out``: that of the first row of all tables that needs it, so that it runs once."""
    table, row = _homes(data)[config, upsampler]
    return Path(folder_name(read_table(table), data)) / row


def _tests_best(config: str, data: str) -> bool:
    """Return the ``best`` of the first table that trains the model, because the ablation has models of two tables."""
    return next(read_table(table).best for (other, _), (table, _) in _homes(data).items() if other == config)


def folder_name(table: Table, data: str) -> str:
    """Return the name of the files and the folder of a table's results; results on Shapes have a name of their own."""
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
