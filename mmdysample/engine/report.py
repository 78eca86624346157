"""Metrics as a table."""

import re
from numbers import Real
from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from rich.console import Console
from rich.table import Table

# CocoMetric's names, 'coco/bbox_mAP_50', and the field's.
COCO_FAMILIES = {'bbox': 'box', 'segm': 'mask', 'proposal': 'proposal'}
COCO_COLUMNS = {'mAP': 'AP', 'mAP_50': 'AP50', 'mAP_75': 'AP75', 'mAP_s': 'APS', 'mAP_m': 'APM', 'mAP_l': 'APL'}
# DepthMetric's names, and the field's, in the order of its tables.
DEPTH_COLUMNS = {
    'd1': 'δ<1.25',
    'd2': 'δ<1.25²',
    'd3': 'δ<1.25³',
    'abs_rel': 'AbsRel',
    'rmse': 'RMS',
    'log10': 'log10',
    'rmse_log': 'RMSlog',
    'silog': 'SILog',
    'sq_rel': 'SqRel',
}


@HOOKS.register_module()
class LastMetrics(Hook):
    """Keep whether anything was trained, and what the last evaluation found."""

    metrics: Optional[dict[str, float]] = None
    trained = False

    def after_train_iter(self, *_: Any, **__: Any) -> None:
        """Remember that there was something left to train."""
        self.trained = True

    def after_val_epoch(self, runner: Any, metrics: Optional[dict[str, float]] = None) -> None:
        """Remember the metrics."""
        self.metrics = metrics


def metric_tables(metrics: dict[str, Any]) -> list[Table]:
    """Lay metrics out as the field's tables do.

    Args:
        metrics: By mmengine's names, such as ``coco/bbox_mAP_50`` or ``mIoU``. AP from 0 to 1 is shown in percent; -1 means that no
            object of that size is in the data.

    Returns:
        One table of average precisions, if there are any, one of depth metrics, and one of everything else.
    """
    families: dict[str, dict[str, float]] = {}
    others: dict[str, Real] = {}
    for key, value in metrics.items():
        name = key.split('/')[-1]
        match = re.fullmatch(rf'({"|".join(COCO_FAMILIES)})_({"|".join(COCO_COLUMNS)})', name)
        if match:
            families.setdefault(COCO_FAMILIES[match[1]], {})[COCO_COLUMNS[match[2]]] = value
        elif isinstance(value, Real) and name not in ('time', 'data_time') and not name.endswith('_copypaste'):
            others[name] = value
    tables = []
    if families:
        table = Table(title='average precision (%)')
        for column in ('', *COCO_COLUMNS.values()):
            table.add_column(column, justify='right' if column else 'left')
        for family, row in families.items():
            table.add_row(family, *(_percent(row.get(column)) for column in COCO_COLUMNS.values()))
        tables.append(table)
    depth = {column: others.pop(name) for name, column in DEPTH_COLUMNS.items() if name in others}
    if depth:
        tables.append(_depth_table(depth))
    if others:
        table = Table(title='metrics')
        for name in others:
            table.add_column(name, justify='right')
        table.add_row(*(f'{float(value):.2f}' for value in others.values()))
        tables.append(table)
    return tables


def _depth_table(metrics: dict[str, Real]) -> Table:
    table = Table(title='depth (RMS and SqRel in metres)')
    for column in metrics:
        table.add_column(column, justify='right')
    table.add_row(*(f'{float(value):.2f}' if column == 'SILog' else f'{float(value):.3f}' for column, value in metrics.items()))
    return table


def _percent(value: Optional[float]) -> str:
    return '-' if value is None or value < 0 else f'{100 * value:.1f}'


def print_metrics(metrics: dict[str, Any]) -> None:
    """Print :func:`metric_tables`; mmdet finds no metrics where no detection reaches the score threshold."""
    if not metrics:
        print('nothing to score: the model predicted nothing above its score threshold (test_cfg in the config)')
    for table in metric_tables(metrics):
        Console().print(table)
