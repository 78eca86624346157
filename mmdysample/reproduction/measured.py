"""Summarise the metrics of a row over its trainings."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional

from .training import Training


class Key(NamedTuple):
    """Where the test writes a metric of a table: the last part of its name, the factor to the table's unit, and the digits to print."""

    name: str
    factor: float = 1.0
    digits: int = 1


_COCO = {'AP': '', 'AP50': '_50', 'AP75': '_75', 'APS': '_s', 'APM': '_m', 'APL': '_l'}

# By column of the tables. mmdet's AP is from 0 to 1; all other metrics already have the unit of the tables.
KEYS: dict[str, Key] = {
    **{column: Key(f'bbox_mAP{part}', 100.0) for column, part in _COCO.items()},
    **{f'box {column}': Key(f'bbox_mAP{part}', 100.0) for column, part in _COCO.items()},
    **{f'mask {column}': Key(f'segm_mAP{part}', 100.0) for column, part in _COCO.items()},
    **{f'boundary {column}': Key(f'boundary_mAP{part}', 100.0) for column, part in list(_COCO.items())[:3]},
    **{column: Key(name) for column, name in {'PQ': 'PQ', 'PQth': 'PQ_th', 'PQst': 'PQ_st', 'SQ': 'SQ', 'RQ': 'RQ'}.items()},
    'mIoU': Key('mIoU', digits=2),
    'border IoU': Key('IoU.border', digits=2),
    'bIoU': Key('predicted_boundary_iou', digits=2),
    'Boundary IoU': Key('boundary_iou', digits=2),
    'near-boundary mIoU': Key('near_boundary_iou', digits=2),
    **{f'delta{i}': Key(f'd{i}', digits=3) for i in (1, 2, 3)},
    'AbsRel': Key('abs_rel', digits=3),
    'RMS': Key('rmse', digits=3),
    'log10': Key('log10', digits=3),
    'RMSlog': Key('rmse_log', digits=3),
    'SILog': Key('silog', digits=3),
    'SqRel': Key('sq_rel', digits=3),
}


@dataclass(frozen=True)
class Measured:
    """A metric over the seeds: mean, standard deviation (None for one seed) and number of seeds."""

    mean: float
    deviation: Optional[float]
    count: int

    def text(self, digits: int) -> str:
        """Return the mean, with the standard deviation if there is one, to that many digits after the decimal point."""
        spread = '' if self.deviation is None else f' ± {self.deviation:.{digits}f}'
        return f'{self.mean:.{digits}f}{spread}'


def measured(metric: str, trainings: Sequence[Training]) -> Optional[Measured]:
    """Summarise a metric of the table over the complete trainings.

    Returns:
        The summary; None if no training is complete, or none had anything to score.
    """
    key = KEYS.get(metric)
    values = [training.metric(key.name) for training in trainings] if key else []
    return summary([key.factor * value for value in values if value is not None]) if key else None


def seconds_per_step(trainings: Sequence[Training]) -> Optional[Measured]:
    """Summarise the time of a training step, in seconds, over the complete trainings."""
    return summary([seconds for training in trainings if training.metrics is not None and (seconds := training.seconds_per_step())])


def origins(trainings: Sequence[Training]) -> dict[str, list[str]]:
    """Return what the kept trainings were made with, as far as it is known: all devices, numbers of threads, versions and revisions."""
    found = [kept.origin for training in trainings if (kept := training.kept)]
    return {name: sorted({origin[name] for origin in found} - {''}) for name in (found[0] if found else ())}


def are_times_comparable(trainings: Sequence[Training]) -> bool:
    """Return True unless the trainings are known to have run on different devices or numbers of threads."""
    known = origins(trainings)
    return all(len(known.get(name, ())) < 2 for name in ('device', 'threads'))


def summary(values: Sequence[float]) -> Optional[Measured]:
    """Return mean and sample standard deviation; None without values."""
    if not values:
        return None
    return Measured(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))
