"""Metrics as a table."""

import re
from collections.abc import Iterable
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

# CocoPanopticMetric's names, 'coco_panoptic/PQ_th'.
PANOPTIC_ROWS = {'': 'all', '_th': 'things', '_st': 'stuff'}
PANOPTIC_COLUMNS = ('PQ', 'SQ', 'RQ')


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
            object of that size is in the data, as does NaN for a panoptic quality, which is in percent already.

    Returns:
        One table of average precisions, one of panoptic qualities and one of depth metrics, if there are any, and one of everything else.
    """
    families: dict[str, dict[str, float]] = {}
    panoptic: dict[str, dict[str, float]] = {}
    others: dict[str, Real] = {}
    for key, value in metrics.items():
        name = key.split('/')[-1]
        match = re.fullmatch(rf'({"|".join(COCO_FAMILIES)})_({"|".join(COCO_COLUMNS)})', name)
        quality = re.fullmatch(rf'({"|".join(PANOPTIC_COLUMNS)})({"|".join(PANOPTIC_ROWS)})', name)
        if match:
            families.setdefault(COCO_FAMILIES[match[1]], {})[COCO_COLUMNS[match[2]]] = value
        elif quality:
            panoptic.setdefault(PANOPTIC_ROWS[quality[2]], {})[quality[1]] = value / 100
        elif isinstance(value, Real) and name not in ('time', 'data_time') and not name.endswith('_copypaste'):
            others[name] = value
    tables = []
    if families:
        tables.append(_percentages('average precision (%)', COCO_COLUMNS.values(), families))
    if panoptic:
        tables.append(_percentages('panoptic quality (%)', PANOPTIC_COLUMNS, panoptic))
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


def _percentages(title: str, columns: Iterable[str], rows: dict[str, dict[str, float]]) -> Table:
    table = Table(title=title)
    table.add_column('')
    for column in columns:
        table.add_column(column, justify='right')
    for name, row in rows.items():
        table.add_row(name, *(_percent(row.get(column)) for column in columns))
    return table


def _depth_table(metrics: dict[str, Real]) -> Table:
    table = Table(title='depth (RMS and SqRel in metres)')
    for column in metrics:
        table.add_column(column, justify='right')
    table.add_row(*(f'{float(value):.2f}' if column == 'SILog' else f'{float(value):.3f}' for column, value in metrics.items()))
    return table


def _percent(value: Optional[float]) -> str:
    return f'{100 * value:.1f}' if value is not None and value >= 0 else '-'


def print_metrics(metrics: dict[str, Any]) -> None:
    """Print :func:`metric_tables`; mmdet finds no metrics where no detection reaches the score threshold."""
    if not metrics:
        print('nothing to score: the model predicted nothing above its score threshold (test_cfg in the config)')
    for table in metric_tables(metrics):
        Console().print(table)
