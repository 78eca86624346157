"""Print metrics as tables."""

import re
from collections.abc import Iterable
from numbers import Real
from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from rich.console import Console
from rich.table import Table

# The names of CocoMetric, such as 'coco/bbox_mAP_50', and those used in papers.
COCO_FAMILIES = {'bbox': 'box', 'segm': 'mask', 'proposal': 'proposal'}
COCO_COLUMNS = {'mAP': 'AP', 'mAP_50': 'AP50', 'mAP_75': 'AP75', 'mAP_s': 'APS', 'mAP_m': 'APM', 'mAP_l': 'APL'}
# The names of DepthMetric, and those used in papers, in the usual order of columns.
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

# The names of CocoPanopticMetric, such as 'coco_panoptic/PQ_th'.
PANOPTIC_ROWS = {'': 'all', '_th': 'things', '_st': 'stuff'}
PANOPTIC_COLUMNS = ('PQ', 'SQ', 'RQ')


@HOOKS.register_module()
class LastMetrics(Hook):
    """Remember whether any iteration was trained, and the metrics of the last evaluation."""

    metrics: Optional[dict[str, float]] = None
    trained = False

    def after_train_iter(self, *_: Any, **__: Any) -> None:
        """Remember that an iteration was trained."""
        self.trained = True

    def after_val_epoch(self, runner: Any, metrics: Optional[dict[str, float]] = None) -> None:
        """Remember the metrics."""
        self.metrics = metrics


def metric_tables(metrics: dict[str, Any]) -> list[Table]:
    """Return tables of metrics, laid out as in papers.

    Args:
        metrics: The metrics by mmengine's names, such as ``coco/bbox_mAP_50`` or ``mIoU``. AP is from 0 to 1 and is shown in percent;
            panoptic quality is in percent. An AP of -1 means that the data has no object of that size, and is shown as ``-``. A panoptic
            quality of NaN, which means that no class was counted, is also shown as ``-``.

    Returns:
        Up to four tables: average precisions, panoptic qualities, depth metrics and all other metrics.
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
    """Print the tables of metrics. mmdet returns no metrics if no detection reaches the score threshold."""
    if not metrics:
        print('no metrics: the model predicted nothing above its score threshold (test_cfg in the config)')
    for table in metric_tables(metrics):
        Console().print(table)
