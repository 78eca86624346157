import io
import re

import numpy as np
from rich.console import Console

from mmdysample.engine.report import metric_tables


def text(metrics):
    console = Console(width=100, record=True, file=io.StringIO())
    for table in metric_tables(metrics):
        console.print(table)
    return console.export_text()


def test_average_precisions_stand_in_rows_by_family():
    metrics = {f'coco/{kind}_{name}': value for kind, value in (('bbox', 0.3861), ('segm', 0.354)) for name in ('mAP', 'mAP_50', 'mAP_75')}
    lines = [line.split() for line in text({**metrics, 'coco/bbox_mAP_l': -1.0}).splitlines()]
    assert ['│', 'box', '│', '38.6', '│', '38.6', '│', '38.6', '│', '-', '│', '-', '│', '-', '│'] in lines
    assert any(line[1:4:2] == ['mask', '35.4'] for line in lines if len(line) > 3)


def test_other_metrics_keep_their_names():
    printed = text({'aAcc': 80.0, 'mIoU': np.float32(41.68), 'mAcc': 50.126, 'time': 0.1, 'data_time': 0.2, 'coco/bbox_mAP_copypaste': 'x'})
    assert 'mIoU' in printed
    assert '41.68' in printed
    assert '50.13' in printed
    assert 'time' not in printed


def test_depth_has_the_columns_of_its_tables():
    metrics = dict(d1=0.8564, d2=0.973, d3=0.993, abs_rel=0.1274, sq_rel=0.085, rmse=0.445, rmse_log=0.159, log10=0.053, silog=13.004)
    rows = [[cell.strip() for cell in re.split('[│┃]', line)[1:-1]] for line in text({**metrics, 'time': 0.2}).splitlines()]
    assert ['δ<1.25', 'δ<1.25²', 'δ<1.25³', 'AbsRel', 'RMS', 'log10', 'RMSlog', 'SILog', 'SqRel'] in rows
    assert ['0.856', '0.973', '0.993', '0.127', '0.445', '0.053', '0.159', '13.00', '0.085'] in rows
    assert len(metric_tables(metrics)) == 1


def test_panoptic_qualities_stand_in_rows_of_things_and_stuff():
    metrics = {'PQ': 41.44, 'SQ': 78.0, 'RQ': 50.0, 'PQ_th': 47.96, 'SQ_th': 80.0, 'RQ_th': 58.0, 'PQ_st': float('nan')}
    lines = [line.split() for line in text({f'coco_panoptic/{name}': value for name, value in metrics.items()}).splitlines()]
    assert ['┃', '┃', 'PQ', '┃', 'SQ', '┃', 'RQ', '┃'] in lines
    assert ['│', 'all', '│', '41.4', '│', '78.0', '│', '50.0', '│'] in lines
    assert ['│', 'things', '│', '48.0', '│', '80.0', '│', '58.0', '│'] in lines
    assert ['│', 'stuff', '│', '-', '│', '-', '│', '-', '│'] in lines
    assert 'metrics' not in text({'coco_panoptic/PQ': 1.0})
