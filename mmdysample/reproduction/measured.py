"""What a row's trainings came to."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional

from .training import Training


class Key(NamedTuple):
    """Where a metric of a table is found in what a test writes: the last part of its name, and the factor to the table's unit."""

    name: str
    factor: float = 1.0
    digits: int = 1


_COCO = {'AP': '', 'AP50': '_50', 'AP75': '_75', 'APS': '_s', 'APM': '_m', 'APL': '_l'}

# By the names of the tables' columns. mmdet's AP is a share, all else is what the tables print.
KEYS: dict[str, Key] = {
    **{column: Key(f'bbox_mAP{part}', 100.0) for column, part in _COCO.items()},
    **{f'box {column}': Key(f'bbox_mAP{part}', 100.0) for column, part in _COCO.items()},
    **{f'mask {column}': Key(f'segm_mAP{part}', 100.0) for column, part in _COCO.items()},
    **{column: Key(name) for column, name in {'PQ': 'PQ', 'PQth': 'PQ_th', 'PQst': 'PQ_st', 'SQ': 'SQ', 'RQ': 'RQ'}.items()},
    'mIoU': Key('mIoU', digits=2),
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
    """A metric over the seeds: its mean, its standard deviation (None of one), and how many there are."""

    mean: float
    deviation: Optional[float]
    count: int

    def text(self, digits: int) -> str:
        """The mean, with the deviation if there is one."""
        spread = '' if self.deviation is None else f' ± {self.deviation:.{digits}f}'
        return f'{self.mean:.{digits}f}{spread}'


def measured(metric: str, trainings: Sequence[Training]) -> Optional[Measured]:
    """Summarise a metric of the table over the trainings that are complete.

    Returns:
        None where none is complete, or none has found anything to score.
    """
    key = KEYS.get(metric)
    values = [training.metric(key.name) for training in trainings] if key else []
    return summary([key.factor * value for value in values if value is not None]) if key else None


def seconds_per_step(trainings: Sequence[Training]) -> Optional[Measured]:
    """Summarise the time of a step over the trainings that are complete."""
    return summary([seconds for training in trainings if training.metrics is not None and (seconds := training.seconds_per_step())])


def summary(values: Sequence[float]) -> Optional[Measured]:
    """Mean and standard deviation (of a sample)."""
    if not values:
        return None
    return Measured(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))
