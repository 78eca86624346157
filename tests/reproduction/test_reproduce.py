"""The paper's tables as a command: what it trains, tests, writes and prints."""

import csv
import io
import json
import os
import statistics
from pathlib import Path

import pytest
from conftest import ROOT
from processes import FOUND, Stub, planned
from rich.console import Console

from mmdysample.engine.config import load_config
from mmdysample.paper.reader import TABLES, read_table
from mmdysample.reproduction import command, measured
from mmdysample.reproduction.training import LOG, Training
from mmdysample.terminal.progress import ProgressOverLines, long_progress
from mmdysample.terminal.tables import fold

pytestmark = pytest.mark.usefixtures('_frameworks', '_no_counting', '_no_settings', '_no_measuring', '_data_is_there')


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def rows_of(out):
    return {row['row']: row for row in csv.DictReader(io.StringIO(out))}


@pytest.mark.parametrize('data', ['coco', 'shapes'])
@pytest.mark.parametrize('name', TABLES)
def test_every_row_is_planned_or_says_why_not(name, data):
    rows = planned(name, data)
    assert [one.row.name for one in rows] == [row.name for row in read_table(name).rows]
    assert all(bool(one.trainings) != bool(one.missing) for one in rows)
    assert all(training.config.is_file() for one in rows for training in one.trainings)
    experiments = {key for row in read_table(name).rows if row.experiment for key in row.experiment.configs}
    assert any(one.trainings for one in rows) == (data in experiments)


def test_a_training_of_two_rows_is_done_once_and_both_show_it(call):
    stub = Stub()
    rows = ('segformer_groups', 'segformer_LP', 'segformer_static_scope', 'segformer_scope_0.25')
    code, out, _ = call(stub, 'ablation', '--data', 'shapes', '--format', 'csv', '--rows', *rows)
    assert code == 0
    assert sorted(stub.told) == [(tool, row, 'seed0') for tool in ('test', 'train') for row in ('DySample', 'segformer_static_scope')]
    assert {name: row['mIoU, ours'] for name, row in rows_of(out).items()} == dict.fromkeys(rows, '68.75')
    again = Stub(fail=['.'])
    assert call(again, 'segformer', '--data', 'shapes', '--rows', 'DySample')[0] == 0
    assert again.commands == []


def test_a_model_is_tested_alike_in_all_of_its_rows():
    """SegFormer by its best checkpoint, in the ablation too, which is first of all about a detector."""
    rows = ('faster_rcnn_naive', 'segformer_naive', 'segformer_groups')
    by_name = {one.row.name: one.trainings[0].best for one in planned('ablation', 'coco', *rows)}
    assert by_name == {name: name.startswith('segformer') for name in by_name}


@pytest.mark.parametrize(('table', 'name'), [('segformer', 'best_mIoU_iter_1.pth'), ('boundary', 'iter_2.pth')])
def test_the_convention_of_the_table_is_what_is_tested(call, table, name):
    stub = Stub()
    assert call(stub, table, '--data', 'shapes', '--seeds', '1', '--rows', 'nearest')[0] == 0
    assert stub.tested == {name}


def test_the_newest_best_is_tested(tmp_path):
    training = Training(ROOT / 'a.py', 'nearest', (), tmp_path, '', best=True)
    for time, name in ((200, 'best_mIoU_iter_9.pth'), (300, 'best_mIoU_iter_10.pth'), (400, 'iter_12.pth'), (100, 'best_mIoU_iter_8.pth')):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time, time))
    assert training.checkpoint().name == 'best_mIoU_iter_10.pth'


@pytest.mark.parametrize('text', ['', 'out/iter_900.pth'])
def test_the_last_is_tested_whatever_its_note_says(tmp_path, text):
    """A training that is killed between the two is complete when it is resumed, and writes neither again."""
    training = Training(ROOT / 'a.py', 'nearest', (), tmp_path, '')
    for name in ('iter_900.pth', 'iter_1000.pth'):
        (tmp_path / name).touch()
    (tmp_path / 'last_checkpoint').write_text(text)
    assert training.checkpoint() == tmp_path / 'iter_1000.pth'


def test_what_has_no_model_keeps_its_published_cells_and_says_why(call):
    code, out, _ = call(Stub(), 'segformer', '--rows', 'SAPA-G', 'SAPA-B', '--format', 'csv')
    assert code == 0
    row = rows_of(out)['SAPA-G']
    assert (row['mIoU, published'], row['mIoU, ours'], row['flops, published'], row['note']) == (
        '44.39',
        '',
        '+1.02G',
        'there is no model to train',
    )
    for data in ('coco', 'shapes'):
        text = call(Stub(), 'segformer', '--data', data, '--rows', 'SAPA-G', 'SAPA-B')[1]
        assert 'SAPA-G: This package has no such upsampler.' in text


def test_cells(call):
    found = lambda work: {'mIoU': 43.0, 'aAcc': 80.0}  # noqa: E731
    rows = ('bilinear', 'DySample', 'DySample-S+', 'FADE')
    out = call(Stub(find=found), 'segformer', '--format', 'csv', '--rows', *rows)[1]
    cells = rows_of(out)
    assert [cells[name]['mIoU, difference'] for name in rows] == ['+1.32', '-0.21', '-0.58', '-0.06']
    assert [cells[name]['mIoU, published'] for name in rows] == ['41.68', '~43.21', '~43.58', '43.06']
    assert [cells['DySample'][f'bIoU, {part}'] for part in ('published', 'ours', 'difference')] == ['', '', '']
    assert cells['DySample']['parameters, published'] == '(+49.2K)'
    assert (cells['bilinear']['parameters, ours'], cells['bilinear']['flops, ours']) == ('1008', '12.00G')
    assert (cells['DySample-S+']['parameters, ours'], cells['DySample-S+']['flops, ours']) == ('+3', '+2.00G')
    text = call(Stub(), 'segformer', '--rows', *rows)[1]
    assert '~43.21 / 43.00 (-0.21)' in text
    assert 'DySample, DySample-S+: In brackets, the weights of six upsamplers' in text
    shapes = call(Stub(find=found), 'segformer', '--data', 'shapes', '--format', 'csv', '--rows', 'bilinear')[1]
    beside = {key: cell for key, cell in rows_of(shapes)['bilinear'].items() if key.endswith((', published', ', difference'))}
    assert len(beside) == 2 * 2 + 2
    assert not any(beside.values())  # of another model on other data
    assert (rows_of(shapes)['bilinear']['mIoU, ours'], rows_of(shapes)['bilinear']['parameters, ours']) == ('43.00', '1008')


def test_mean_and_sample_deviation_over_the_seeds(call):
    values = {'seed0': 70.0, 'seed1': 71.0, 'seed2': 75.0}
    stub = Stub(find=lambda work: {'mIoU': values[work.name]})
    code, out, _ = call(stub, 'boundary', '--seeds', '3', '--rows', 'nearest', 'CARAFE', '--format', 'csv')
    assert code == 0
    # Mean 72, squares of the deviations 4 + 1 + 9, halved: 7.
    assert rows_of(out)['CARAFE']['mIoU, ours'] == f'72.00 ± {7**0.5:.2f}' == '72.00 ± 2.65'
    assert statistics.stdev(values.values()) == pytest.approx(7**0.5)
    trained = [c for c in stub.commands if 'train.py' in ' '.join(c)]
    assert [c[-1] for c in trained] == [f'randomness.seed={seed}' for seed in (0, 0, 1, 1, 2, 2)]
    assert 'Mean ± standard deviation of 3 seeds.' in call(Stub(), 'boundary', '--seeds', '3', '--rows', 'CARAFE')[1]


def test_a_row_of_fewer_seeds_is_named(call):
    stub = Stub(fail=['CARAFE.*randomness.seed=1'])
    code, out, _ = call(stub, 'boundary', '--seeds', '2', '--rows', 'nearest', 'CARAFE')
    assert code == 1
    assert 'Mean ± standard deviation of 2 seeds; of fewer: CARAFE 1.' in out


def test_what_was_not_found_is_no_number(tmp_path):
    assert measured.summary([]) is None
    assert measured.summary([3.0]).deviation is None
    training = Training(Path('config.py'), 'nearest', (), tmp_path, 'digest')

    def ap(**found):
        training.write_note(seconds=1.0, resumed=False, metrics={f'coco/{name}': value for name, value in found.items()})
        summary = measured.measured('AP', [training])
        return summary and summary.mean

    assert [ap(bbox_mAP=value) for value in (0.375, -1.0, float('nan'))] == [37.5, None, None]
    assert ap(bbox_mAP_s=0.2) is None  # another metric, whose name begins alike


def test_a_seed_that_found_nothing_is_in_no_mean_and_is_not_counted(call):
    stub = Stub(find=lambda work: {} if work.parts[-2:] == ('CARAFE', 'seed1') else {'coco/bbox_mAP': 0.5})
    out = call(stub, 'faster_rcnn', '--data', 'shapes', '--seeds', '3', '--rows', 'nearest', 'CARAFE')[1]
    assert 'Mean ± standard deviation of 3 seeds; of fewer: CARAFE 2.' in out


def test_nothing_is_said_of_seeds_before_there_are_two(call):
    dry = call(Stub(), 'boundary', '--dry-run', '--rows', 'CARAFE')[1]
    one = call(Stub(fail=['seed=[12]']), 'boundary', '--rows', 'CARAFE')[1]
    assert 'seeds' not in one + '\n'.join(line for line in dry.splitlines() if not line.startswith('env '))


def test_every_column_is_found_in_what_a_test_writes():
    """By the names that the metrics give, as far as they say so without data."""
    from mmdet.evaluation.metrics.coco_panoptic_metric import parse_pq_results
    from mmseg.evaluation.metrics import DepthMetric

    from mmdysample.evaluation.boundary_iou import FORMS

    nuclei = load_config(str(ROOT / 'configs/nuclei/nuclei_coarse.py')).test_dataloader.dataset.metainfo.classes
    sizes = ('', '_50', '_75', '_s', '_m', '_l')
    coco = [f'{kind}_mAP{size}' for kind in ('bbox', 'segm') for size in sizes] + [f'boundary_mAP{size}' for size in sizes[:3]]
    quality = parse_pq_results({group: dict(pq=0.0, sq=0.0, rq=0.0) for group in ('All', 'Things', 'Stuff')})
    written = {*coco, *quality, 'mIoU', *(f'IoU.{name}' for name in nuclei), *FORMS, *DepthMetric.METRICS}
    assert {key.name for key in measured.KEYS.values()} <= written
    trained = [read_table(name) for name in TABLES if read_table(name).experiments]
    assert {metric for table in trained for metric in table.metrics} <= measured.KEYS.keys()


def test_interrupted_and_called_again(call, tmp_path, monkeypatch):
    arguments = ('segformer', '--data', 'shapes', '--rows', 'nearest', 'bilinear', 'CARAFE')
    monkeypatch.setattr('sys.argv', command := ['tools/reproduce.py', *arguments])
    code, _, err = call(Stub(die=['--upsampler bilinear']), *arguments)
    assert code == 130
    assert err.endswith(f'error: interrupted: continue with python {" ".join(command)}\n')
    done = content(tmp_path / 'out/segformer_shapes/nearest')
    stub = Stub()
    code, out, _ = call(stub, *arguments, '--format', 'csv')
    assert code == 0
    assert ('train', 'bilinear', 'seed0', 'resumed') in stub.told
    assert not [told for told in stub.told if told[1] == 'nearest']
    assert content(tmp_path / 'out/segformer_shapes/nearest') == done
    assert [row['mIoU, ours'] for row in rows_of(out).values()] == ['68.75'] * 3
    assert json.loads((tmp_path / 'out/segformer_shapes/bilinear/seed0/training.json').read_text())['metrics'] == FOUND


def test_a_row_that_fails_is_named_and_the_others_go_on(call, tmp_path):
    arguments = ('segformer', '--data', 'shapes', '--rows', 'nearest', 'bilinear', 'CARAFE', '--format', 'csv')
    code, out, err = call(Stub(fail=['train.py.*--upsampler bilinear']), *arguments)
    assert code == 1
    log = tmp_path / 'out/segformer_shapes/bilinear/seed0/output.log'
    assert err.splitlines()[-1] == f'failed: segformer_shapes/bilinear/seed0: exit code 2: ValueError: no luck (all of it: {log})'
    assert {name: row['mIoU, ours'] for name, row in rows_of(out).items()} == {'nearest': '68.75', 'bilinear': '', 'CARAFE': '68.75'}
    stub = Stub()
    assert call(stub, *arguments)[0] == 0
    assert {told[1] for told in stub.told} == {'bilinear'}


def test_files(call, tmp_path, monkeypatch):
    table = read_table('boundary')
    stub = Stub(find=lambda work: {'mIoU': 60.0 + len(work.parent.name)})
    assert call(stub, 'boundary', '--seeds', '1')[0] == 0
    folder = tmp_path / 'out'
    whole = {name: (folder / name).read_bytes() for name in ('boundary.md', 'boundary.csv', 'boundary.png')}
    assert whole['boundary.png'].startswith(b'\x89PNG')
    assert list(rows_of(whole['boundary.csv'].decode())) == [row.name for row in table.rows]
    assert whole['boundary.md'].decode().startswith('## ')
    # Some rows, one of them so often that their number is that of the whole table.
    assert call(Stub(), 'boundary', '--seeds', '1', '--rows', *['CARAFE'] * len(table.rows))[0] == 0
    assert {name: (folder / name).read_bytes() for name in whole} == whole
    assert list(rows_of((folder / 'boundary_rows.csv').read_text())) == ['CARAFE']
    # All tables on other data than the one of this table: it stays.
    monkeypatch.setattr(command, 'TABLES', ('boundary', 'complexity'))
    assert call(Stub(fail=['.']), 'all', '--data', 'coco')[0] == 0
    assert {name: (folder / name).read_bytes() for name in whole} == whole
    assert call(Stub(fail=['.']), 'all', '--data', 'shapes', '--seeds', '1')[0] == 0
    assert '12.6' in (folder / 'complexity.md').read_text()


def test_predictions_are_drawn_of_segmenters_alone(call, monkeypatch):
    """In the ablation, the rows of a detector stand beside them."""
    drawn = []
    monkeypatch.setattr(command, 'draw_gallery', lambda plans, **_: drawn.extend(one.row.name for one in plans))
    stub = Stub(find=lambda work: {'coco/bbox_mAP': 0.4} if 'faster_rcnn' in str(work) else {'mIoU': 40.0})
    assert call(stub, 'ablation', '--data', 'shapes', '--rows', 'faster_rcnn_naive', 'segformer_naive')[0] == 0
    assert drawn == ['segformer_naive']


def test_a_table_whose_checkpoints_were_removed_stands(call, tmp_path):
    arguments = ('segformer', '--data', 'shapes', '--rows', 'CARAFE')
    assert call(Stub(), *arguments)[0] == 0
    folder = tmp_path / 'out/segformer_shapes/CARAFE/seed0'
    load_config('configs/shapes/segformer_b1_dysample_shapes.py').dump(str(folder / 'segformer_b1_dysample_shapes.py'))
    (folder / 'best_mIoU_iter_1.pth').unlink()
    code, out, err = call(Stub(fail=['.']), *arguments)
    assert (code, '68.75' in out) == (0, True)
    missing = f'{folder} has no best_*.pth, which train.py should have written: remove the folder to train again'
    assert err.splitlines()[-1] == f'no picture of predictions: {missing}'


def test_the_table_fits_the_terminal(call, monkeypatch):
    monkeypatch.setenv('COLUMNS', '80')
    out = call(Stub(), 'faster_rcnn', '--dry-run', '--rows', 'DySample')[1]
    shown = [line for line in out.splitlines() if not line.startswith('env ')]
    assert max(map(len, shown)) <= 80
    assert all(f' {metric} ' in out for metric in read_table('faster_rcnn').metrics)
    rows = [{'row': 'a', 'x': '1' * 30, 'y': '2' * 30, 'z': '3'}]
    assert [list(part[0]) for part in fold(rows, 50)] == [['row', 'x'], ['row', 'y', 'z']]
    assert fold(rows, 200) == [rows]
    assert [list(part[0]) for part in fold(rows, 5)] == [['row', 'x'], ['row', 'y'], ['row', 'z']]


@pytest.mark.parametrize(('table', 'row', 'counted'), [('ablation', 'faster_rcnn_naive', False), ('faster_rcnn', 'DySample', True)])
def test_columns_with_nothing_in_them_are_left_out(call, table, row, counted):
    out = call(Stub(), table, '--dry-run', '--rows', row)[1]
    assert (' parameters ' in out, ' flops ' in out, ' ms a step ' in out) == (True, counted, False)


@pytest.mark.parametrize(
    ('line', 'state'),
    [
        ('Iter(train) [ 350/2000]  lr: 1.0e-03  eta: 0:03:10  time: 0.1  loss: 1.0', 'iter 350/2000, 0:03:10 left'),
        ('Epoch(train)  [3][ 350/7330]  lr: 1.0e-03  eta: 1 day, 2:03:10  time: 0.1', 'epoch 3, 1 day, 2:03:10 left'),
        ('Iter(train) [ 350/2000]  lr: 1.0e-03  eta: 12 days, 2:03:10  time', 'iter 350/2000, 12 days, 2:03:10 left'),
        ('Iter(train) [ 350/2000]  eta: 0:03:10\n$ env python test.py', ''),
        ('Iter(train) [ 350/2000]  eta: 0:03:10\n$ env python test.py\nIter(test) [ 50/100]    eta: 0:00:09', 'test 50/100, 0:00:09 left'),
        ('nothing yet', ''),
    ],
)
def test_state(tmp_path, line, state):
    training = Training(ROOT / 'a.py', 'nearest', (), tmp_path, '')
    assert training.state() == ''
    (tmp_path / LOG).write_text(f'$ env python train.py\n{"x" * 5000}\n{line}\n')
    assert training.state() == state


def test_seconds_per_step(tmp_path):
    training = Training(ROOT / 'a.py', 'nearest', (), tmp_path, '')
    assert training.seconds_per_step() is None
    runs = {
        '1': [b'{"loss": 1.0, "time": 0.2}', b'{"loss": 1.0, "time": 0.4}', b'{"loss": 1.0, "ti'],
        '2': [b'{"mIoU": 1.0, "time": 9.0}', b'{"loss": 1.0, "time": 0.3}'],
        'damaged': [b'', b'\0' * 9, b'\xff}', b'{"loss": }', b'[]', b'7', b'[' * 10**5, b'null', b'{}{}'],
        'wrong': [b'{"loss": 1, "time": %s}' % time for time in (b'"9"', b'null', b'NaN', b'true', b'[9]', b'-9', b'1e999', b'9' * 5000)],
    }
    for name, lines in runs.items():
        (tmp_path / name / 'vis_data').mkdir(parents=True)
        (tmp_path / name / 'vis_data/scalars.json').write_bytes(b'\n'.join(lines))
    (tmp_path / 'folder/vis_data/scalars.json').mkdir(parents=True)
    assert training.seconds_per_step() == 0.3


def test_progress_says_what_is_being_done_in_lines_of_its_own(monkeypatch, capsys):
    monkeypatch.setenv('COLUMNS', '80')
    with long_progress('training segformer', 17, lambda: f'one{"x" * 90}\ntwo') as ended:
        ended('done: three')
        bar = ProgressOverLines(console=Console(width=80))
        bar.now = lambda: f'one{"x" * 90}\ntwo'
        with bar.console.capture() as captured:
            bar.console.print(bar.get_renderable())
    lines = captured.get().splitlines()
    assert [line for line in lines if line.startswith(('one', 'two'))] == [f'one{"x" * 76}…', 'two']
    assert 'done: three' in capsys.readouterr().err
