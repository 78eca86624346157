import csv
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading

import pytest
from conftest import ROOT
from mmengine.config import Config
from processes import FOUND, Stub

from mmdysample.catalogue.twins import SUFFIX, find_twins, judged_by
from mmdysample.reproduction import shapes_table
from mmdysample.reproduction.processes import complete
from mmdysample.reproduction.tools import Tools
from mmdysample.reproduction.training import LOCK, NOTE, Training

SHAPES = ROOT / 'configs/shapes'
FASTER, MASK, SEGFORMER = (f'{name}_dysample_shapes' for name in ('faster_rcnn', 'mask_rcnn', 'segformer_b1'))

pytestmark = pytest.mark.usefixtures('_frameworks')


@pytest.fixture
def call(tmp_path, capsys):
    def run(stub, *arguments):
        try:
            code = shapes_table.main(ROOT, stub, ['--out', str(tmp_path / 'out'), *arguments])
        except SystemExit as exit_:
            code = exit_.code
        return code, *capsys.readouterr()

    return run


def test_every_twin_has_a_metric_and_a_baseline():
    twins = {twin.path.stem: twin for twin in find_twins(SHAPES)}
    everything = {path.stem for path in SHAPES.glob('*_shapes.py')}
    assert set(twins) <= everything
    assert {stem for stem in everything - set(twins) if 'dupsample' not in stem} == set()
    assert all(twin.metrics for twin in twins.values())
    assert [twins[name].baseline for name in (FASTER, MASK, SEGFORMER)] == ['nearest', 'nearest', 'bilinear']
    assert [metric.name for metric in twins[MASK].metrics] == ['box AP', 'mask AP']
    assert twins[MASK].name == 'mask_rcnn'


@pytest.mark.parametrize(
    ('evaluator', 'names'),
    [
        (dict(type='CocoMetric', metric='bbox'), ['box AP']),
        (dict(type='CocoMetric'), ['box AP']),
        ([dict(type='mmdysample.CocoPanopticMetric'), dict(type='DumpResults')], ['PQ']),
        (dict(type='IoUMetric', iou_metrics=['mIoU']), ['mIoU']),
        (dict(type='mmdysample.DepthMetric'), ['AbsRel (less is better)']),
    ],
)
def test_metrics_of_evaluators(evaluator, names):
    assert [metric.name for metric in judged_by(Config(dict(test_evaluator=evaluator)))] == names


def test_an_evaluator_that_is_not_known():
    with pytest.raises(ValueError, match='is evaluated by FooMetric, of which no metric is known; known are CocoMetric, '):
        list(judged_by(Config(dict(test_evaluator=dict(type='FooMetric')))))


@pytest.mark.parametrize('pattern', ['segformer', '*b1*', f'configs/shapes/{SEGFORMER}.py'])
def test_patterns(pattern):
    assert [twin.path.stem for twin in find_twins(SHAPES, [pattern])] == [SEGFORMER]


def test_a_table(call, tmp_path):
    stub = Stub()
    code, out, err = call(stub, '--only', FASTER, MASK, SEGFORMER, '--format', 'csv', '--jobs', '2')
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [[*row.values()][:-1] for row in rows] == [
        ['faster_rcnn', 'object detection', 'box AP', 'nearest', '45.1', '45.1', '45.1'],
        ['mask_rcnn', 'object detection', 'box AP', 'nearest', '45.1', '45.1', '45.1'],
        ['mask_rcnn', 'instance segmentation', 'mask AP', 'nearest', '50.0', '50.0', '50.0'],
        ['segformer_b1', 'semantic segmentation', 'mIoU', 'bilinear', '68.75', '68.75', '68.75'],
    ]
    assert [*rows[0]][-4:] == ['baseline', 'DySample', 'DySample+', 'minutes']
    assert re.fullmatch(r'\d+\.\d / \d+\.\d / \d+\.\d', rows[0]['minutes'])
    assert (tmp_path / 'out/table_rows.csv').read_text() == out
    markdown = (tmp_path / 'out/table_rows.md').read_text()
    assert re.search(r'\| `segformer_b1` *\| semantic segmentation *\| mIoU *\| *bilinear *\| *68.75 ', markdown)
    assert 'ranks nothing' in markdown
    assert sorted(stub.told) == sorted(
        (tool, config, upsampler)
        for tool in ('train', 'test')
        for config, baseline in ((FASTER, 'nearest'), (MASK, 'nearest'), (SEGFORMER, 'bilinear'))
        for upsampler in (baseline, 'DySample', 'DySample+')
    )
    assert f'done: {FASTER} nearest, 0.0 min' in err
    assert stub.tested == {'iter_2.pth'}

    again = Stub(fail=['.'])
    code, text, _ = call(again, '--only', FASTER, MASK, SEGFORMER)
    assert (code, again.commands) == (0, [])
    assert 'mIoU' in text
    assert 'ranks nothing' in text


def test_a_selection_takes_the_place_of_no_whole_table(tmp_path):
    shapes_table.write([dict(name='whole-table')], tmp_path, whole=True)
    shapes_table.write([dict(name='one')], tmp_path, whole=False)
    assert {path.name: 'whole-table' in path.read_text() for path in tmp_path.iterdir()} == {
        'table.md': True, 'table.csv': True, 'table_rows.md': False, 'table_rows.csv': False,
    }  # fmt: skip


def test_the_commands(call, monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(6)), raising=False)
    stub = Stub()
    dry = call(Stub(), '--only', SEGFORMER, '--upsamplers', 'DySample', '--jobs', '2', '--dry-run', '--cfg-options', 'shapes.train=16')[1]
    call(stub, '--only', SEGFORMER, '--upsamplers', 'DySample', '--jobs', '2', '--cfg-options', 'shapes.train=16')
    train, test = map(' '.join, stub.commands)
    assert dry.splitlines()[0] == train
    assert dry.splitlines()[1].startswith(test.rpartition(' ')[0])
    assert train.startswith(f'env OMP_NUM_THREADS=3 {sys.executable} ')
    assert train.endswith('/DySample --cfg-options shapes.train=16')
    assert f'/{SEGFORMER}/DySample/{SEGFORMER}.py ' in test


def test_one_training_for_two_names_of_one_upsampler(call):
    stub = Stub()
    code, out, _ = call(stub, '--only', SEGFORMER, '--upsamplers', 'baseline', 'bilinear', "dict(type='bilinear')", '--format', 'csv')
    assert code == 0
    assert stub.told == [('train', SEGFORMER, 'bilinear'), ('test', SEGFORMER, 'bilinear')]
    assert out.splitlines()[1].count('68.75') == 3


def test_a_failure_keeps_nothing_from_going_on(call, tmp_path):
    code, out, err = call(Stub(fail=['train.py.*--upsampler DySample ', 'test.py.*nearest']), '--only', FASTER, '--format', 'csv')
    folder = tmp_path / 'out' / FASTER
    assert code == 1
    assert re.search(r'nearest,failed,failed,45.1,0.0 / - / 0.0$', out.strip())
    for upsampler in ('nearest', 'DySample'):
        line = f'failed: {FASTER} {upsampler}: exit code 2: ValueError: no luck (all of it: {folder / upsampler / "output.log"})'
        assert line in err.splitlines()

    repaired = Stub()
    assert call(repaired, '--only', FASTER)[0] == 0
    # What is trained is not trained again.
    assert repaired.told == [('test', FASTER, 'nearest'), ('train', FASTER, 'DySample'), ('test', FASTER, 'DySample')]


def training(tmp_path, digest='0'):
    return Training(SHAPES / f'{SEGFORMER}.py', 'DySample', (), tmp_path / SEGFORMER / 'DySample', digest)


def finish(training, stub):
    return complete(training, Tools(ROOT / 'tools', 1), stub, threading.Event())


def test_an_interrupted_training_goes_on(tmp_path):
    stub = Stub(die=['train.py'])
    with pytest.raises(KeyboardInterrupt):
        finish(training(tmp_path), stub)
    assert training(tmp_path).metrics is None
    assert finish(training(tmp_path), stub) == FOUND
    name = (SEGFORMER, 'DySample')
    assert stub.told == [('train', *name), ('train', *name, 'resumed'), ('test', *name)]
    assert training(tmp_path).note()['resumed'] is True
    assert finish(training(tmp_path), Stub(fail=['.'])) == FOUND


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_what_runs_and_begins_nothing(call, monkeypatch, number, code):
    monkeypatch.setattr('sys.argv', ['tools/shapes_table.py', '--only', SEGFORMER])
    stub = Stub(die=['train.py.*DySample '], number=number)
    got, _, err = call(stub, '--only', SEGFORMER)
    assert (got, stub.ended.is_set(), stub.told[2:]) == (code, True, [('train', SEGFORMER, 'DySample')])
    assert err.count('training: ') == 2
    assert [line for line in err.splitlines() if re.match('error|failed', line)] == [
        f'error: interrupted: continue with python tools/shapes_table.py --only {SEGFORMER}'
    ]
    stub = Stub()
    assert call(stub, '--only', SEGFORMER)[0] == 0
    assert ('train', SEGFORMER, 'DySample', 'resumed') in stub.told
    assert ('train', SEGFORMER, 'bilinear') not in stub.told


def test_without_a_terminal_it_says_what_begins(call, tmp_path):
    err = call(Stub(), '--only', SEGFORMER, '--upsamplers', 'DySample')[2]
    log = tmp_path / 'out' / SEGFORMER / 'DySample' / 'output.log'
    begun, ended = err.index(f'log: {log}'), err.index('done: ')
    assert begun < ended


def test_a_note_that_was_being_written(tmp_path):
    (tmp_path / SEGFORMER / 'DySample').mkdir(parents=True)
    for name in (LOCK, f'{NOTE}.tmp'):
        (tmp_path / SEGFORMER / 'DySample' / name).write_text('{"met')
    assert finish(training(tmp_path), Stub()) == FOUND


@pytest.fixture
def held(tmp_path):
    """A process that holds the lock of a training until its stdin is closed."""
    folder = tmp_path / 'out' / SEGFORMER / 'DySample'
    folder.mkdir(parents=True)
    hold = 'import fcntl, sys; f = open(sys.argv[1], "w"); fcntl.flock(f, fcntl.LOCK_EX); print("held", flush=True); sys.stdin.read()'
    command = [sys.executable, '-c', hold, str(folder / LOCK)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == 'held\n'
        yield process


def test_a_process_that_outlived_its_parent_is_waited_for(call, tmp_path, held, monkeypatch):
    """It holds the lock that it inherited, so nothing else writes to its folder meanwhile."""
    stub, told = Stub(), []

    def release():
        told.append(list(stub.told))
        held.stdin.close()

    monkeypatch.setattr('mmdysample.reproduction.processes.POLL', 0.01)
    threading.Timer(2.0, release).start()
    code, _, err = call(stub, '--only', SEGFORMER, '--upsamplers', 'DySample')
    assert code == 0
    assert told == [[]]
    assert stub.told == [('train', SEGFORMER, 'DySample'), ('test', SEGFORMER, 'DySample')]
    assert f'waiting: another process is writing to {tmp_path / "out" / SEGFORMER / "DySample"}' in err


def test_a_file_system_without_locks_is_not_waited_for(tmp_path, monkeypatch):
    def flock(file, kind):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr('fcntl.flock', flock)
    assert finish(training(tmp_path), Stub()) == FOUND


def test_without_locks_of_posix_it_names_what_it_needs(call, monkeypatch):
    monkeypatch.setitem(sys.modules, 'fcntl', None)
    stub = Stub()
    code, _, err = call(stub, '--only', SEGFORMER)
    assert (code, stub.told) == (2, [])
    assert err.strip().splitlines()[-1].startswith('error: training several models needs Linux or macOS: on Windows, use WSL')


def test_waiting_can_be_interrupted(call, held, monkeypatch):
    def interrupted(futures):
        raise KeyboardInterrupt

    monkeypatch.setattr('mmdysample.reproduction.train_all.as_completed', interrupted)
    stub = Stub()
    assert call(stub, '--only', SEGFORMER, '--upsamplers', 'DySample')[0] == 130
    assert stub.told == []


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--only', 'sogformer'], "matches 'sogformer'; there are depth_swin_t_dysample_shapes, dupsample_r50_shapes"),
        (['--only', 'dupsample'], 'matches dupsample takes an upsampler by name'),
        (['--upsamplers', 'DySample', 'DySampel'], "unknown upsampler 'DySampel' (did you mean 'DySample'"),
        (['--upsamplers', 'DySample', '--cfg-options', 'modle.x=1'], 'did you mean model?'),
        (['--out', 'README.md'], '--out takes a folder, got the file README.md'),
    ],
)
def test_wrong_use(call, arguments, message):
    stub = Stub()
    code, _, err = call(stub, *arguments)
    assert (code, stub.commands) == (2, [])
    assert message in err
    assert 'Traceback' not in err
    assert len(err.splitlines()) == 1


def test_what_is_in_the_way_is_left_alone(call, tmp_path):
    folder = tmp_path / 'out' / SEGFORMER / 'bilinear'
    folder.mkdir(parents=True)
    (folder / 'thesis.tex').touch()
    stub = Stub()
    code, _, err = call(stub, '--only', SEGFORMER)
    assert (code, stub.commands) == (2, [])
    assert f'error: {folder} holds other files: choose another --out' in err


DAMAGED = [
    *('', '{"conf', '{}', '[]', '7', '\0\0', '[' * 10**5, '{"digest": 7}', '{"digest": "DIGEST", "metrics": {}}'),
    *(
        f'{{"digest": "DIGEST", "seconds": {seconds}, "resumed": true}}'
        for seconds in ('"1"', 'null', 'true', '[1]', '-1', 'NaN', '1e999', '9' * 5000)
    ),
    *(f'{{"digest": "DIGEST", "gpus": {gpus}}}' for gpus in ('"2"', 'null', '[2]')),
    *('{"digest": "DIGEST", "seconds": 1}', '{"digest": "DIGEST", "seconds": 1, "resumed": "no"}'),
    *(f'{{"digest": "DIGEST", "seconds": 1, "resumed": true, "metrics": {metrics}}}' for metrics in ('7', '[]', 'null')),
    *(f'{{"digest": "DIGEST", "seconds": 1, "resumed": true, "metrics": {{"mIoU": {v}}}}}' for v in ('"7"', 'null', 'true', '[7]', '{}')),
]


@pytest.mark.parametrize('content', [*(text.encode() for text in DAMAGED), b'{"digest": "DIGEST", "config": "\xff"}', None])
def test_a_note_that_is_damaged(call, tmp_path, content):
    folder = tmp_path / 'out' / SEGFORMER / 'bilinear'
    folder.mkdir(parents=True)
    if content is None:
        (folder / NOTE).mkdir()
    else:
        (folder / NOTE).write_bytes(content)
    stub = Stub()
    code, _, err = call(stub, '--only', SEGFORMER)
    assert (code, stub.commands) == (2, [])
    assert err == f'error: {folder / NOTE} is damaged: remove {folder}, or choose another --out\n'


def test_what_is_no_damage_of_a_note(tmp_path):
    one = training(tmp_path)
    one.folder.mkdir(parents=True)
    for content in (
        '"x": [], "seconds": 0, "resumed": false',
        '"seconds": 1, "resumed": true, "metrics": {"AP": NaN, "d1": -1, "AbsRel": 7}',
    ):
        (one.folder / NOTE).write_text(f'{{"digest": "0", {content}}}', encoding='utf-8-sig')
        assert one.note()['digest'] == '0'
    assert one.metric('AbsRel') == 7


def test_a_note_that_cannot_be_read(call, tmp_path, monkeypatch):
    def forbidden(path):
        raise PermissionError(errno.EACCES, 'Permission denied', str(path))

    monkeypatch.setattr('pathlib.Path.read_bytes', forbidden)
    code, _, err = call(Stub(), '--only', SEGFORMER, '--upsamplers', 'DySample')
    note = tmp_path / 'out' / SEGFORMER / 'DySample' / NOTE
    assert (code, err) == (2, f'error: {note} cannot be read (Permission denied): make it readable, or choose another --out\n')


@pytest.mark.parametrize('content', [b'', b'{"mIoU": 6', b'[]', b'\xff', None])
def test_metrics_that_are_damaged_are_written_again(call, tmp_path, content):
    """As by a full disk: the test says that it is complete."""
    arguments = ('--only', SEGFORMER, '--upsamplers', 'DySample')
    stub, path = Stub(), tmp_path / 'out' / SEGFORMER / 'DySample/test/0/0.json'

    class Spoiling(Stub):
        def __call__(self, command, log, held):
            code = super().__call__(command, log, held)
            if path.exists():
                path.unlink()
                path.mkdir() if content is None else path.write_bytes(content)
            return code

    code, _, err = call(Spoiling(), *arguments)
    assert code == 1
    assert (
        f'failed: {SEGFORMER} DySample: {path} is damaged or cannot be read: run the same command again to test again' in err.splitlines()
    )
    path.parent.rename(path.parent.with_name('earlier'))
    assert call(stub, *arguments)[0] == 0
    assert stub.told == [('test', SEGFORMER, 'DySample')]


def test_results_of_other_options_are_not_shown(call):
    arguments = ('--only', SEGFORMER, '--upsamplers', 'DySample')
    assert call(Stub(), *arguments)[0] == 0
    stub = Stub()
    code, _, err = call(stub, *arguments, '--cfg-options', 'train_cfg.max_iters=2')
    assert (code, stub.commands) == (2, [])
    assert re.search(rf'{SEGFORMER}/DySample is from another version of .*{SEGFORMER}.py or was trained with other options: remove it', err)


@pytest.mark.slow
def test_for_real(shapes, tmp_path):
    """Through the processes."""
    options = ['shapes.train=16', 'shapes.val=8', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2']
    arguments = ['--only', SEGFORMER, '--upsamplers', 'DySample', '--format', 'csv', '--out', str(tmp_path), '--cfg-options', *options]
    done = subprocess.run(
        [sys.executable, 'tools/shapes_table.py', *arguments],
        env={**os.environ, 'SHAPES_ROOT': str(shapes)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r'segformer_b1,semantic segmentation,mIoU,\d+\.\d\d,\d+\.\d', done.stdout.splitlines()[1])
    folder = tmp_path / SEGFORMER / 'DySample'
    assert (folder / 'iter_2.pth').is_file()
    note = json.loads((folder / NOTE).read_text())
    assert 0 <= note['metrics']['mIoU'] <= 100
    assert note['seconds'] > 0
    assert SUFFIX in note['config']
