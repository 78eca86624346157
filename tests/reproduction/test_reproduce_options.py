"""Options of the command of the paper's tables: rows, GPUs, Slurm, dry runs, and wrong use."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from processes import Stub, planned

from mmdysample.datasets.check import prepare_data
from mmdysample.paper.reader import read_table
from mmdysample.reproduction import command
from mmdysample.reproduction.lanes import make_lanes
from mmdysample.reproduction.plan import Settings, plan

pytestmark = pytest.mark.usefixtures('_frameworks', '_no_counting', '_no_settings', '_no_measuring', '_data_is_there')


def environment(stub):
    return [{part.partition('=')[0]: part.partition('=')[2] for part in c[1:] if '=' in part} for c in stub.commands]


def test_two_gpus_are_two_lanes(call, monkeypatch):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(6)), raising=False)
    rows = [row.name for row in read_table('boundary').rows][:6]
    stub = Stub()
    assert call(stub, 'boundary', '--seeds', '1', '--rows', *rows, '--gpus', '0', '1')[0] == 0
    assert {e['CUDA_VISIBLE_DEVICES'] for e in environment(stub)} <= {'0', '1'}
    assert {e['OMP_NUM_THREADS'] for e in environment(stub)} == {'3'}
    lanes = make_lanes(ROOT / 'tools', [0, 1], 1, 1)
    assert [lane.gpus for lane in lanes] == [(0,), (1,)]


def test_several_gpus_for_a_row(call, monkeypatch):
    lanes = make_lanes(ROOT / 'tools', [0, 1, 2, 3], 2, 1)
    one = planned('boundary', 'shapes', 'CARAFE')[0].trainings[0]
    commands = [dict(part.split('=', 1) for part in lane.train(one) if part.startswith(('CUDA', 'PORT'))) for lane in lanes]
    assert commands == [{'CUDA_VISIBLE_DEVICES': '0,1', 'PORT': '29500'}, {'CUDA_VISIBLE_DEVICES': '2,3', 'PORT': '29502'}]
    line = lanes[1].train(one)
    assert line[line.index('bash') + 1].endswith('tools/dist_train.sh')
    assert line[line.index('bash') + 3] == '2'
    assert 'CUDA_VISIBLE_DEVICES=2' in lanes[1].test(one)
    # In a job, the GPUs are counted among those of the job, and the jobs of a machine have ports of their own.
    monkeypatch.setenv('SLURM_JOB_ID', '7001')
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,GPU-5')
    (lane,) = make_lanes(ROOT / 'tools', [0, 1], 2, 1)
    assert {'CUDA_VISIBLE_DEVICES=4,GPU-5', 'PORT=29520'} <= set(lane.train(one))
    stub = Stub()
    assert call(stub, 'boundary', '--seeds', '1', '--rows', 'CARAFE', '--gpus', '0', '1', '--gpus-per-row', '2')[0] == 0
    assert stub.told == [('dist_train', 'CARAFE', 'seed0'), ('test', 'CARAFE', 'seed0')]


def test_two_calls_on_one_machine_have_ports_of_their_own(monkeypatch):
    one = planned('boundary', 'shapes', 'CARAFE')[0].trainings[0]
    ports = set()
    for visible in ('0,1', '2,3', 'GPU-5,GPU-6', 'GPU-7,GPU-8'):
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
        (lane,) = make_lanes(ROOT / 'tools', [0, 1], 2, 1)
        ports |= {part for part in lane.train(one) if part.startswith('PORT=')}
    assert len(ports) == 4


def test_a_training_on_more_gpus_has_a_digest_of_its_own():
    """Their batch is another, so that the results of one are not those of the other."""
    settings = [Settings('shapes', 1, Path('out'), {}, (), gpus=gpus) for gpus in (1, 1, 2, 8)]
    digests = [plan(read_table('boundary'), one, ['CARAFE'])[0].trainings[0].digest for one in settings]
    assert [digests.count(digest) for digest in digests] == [2, 2, 1, 1]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['faster_rcnn', '--results', 'lines'], '--results is for nuclei: the results of faster_rcnn are in --out'),
        (['faster_rcnn', '--gpus', '0', '--jobs', '2'], '--jobs is for trainings without --gpus'),
        (['complexity', '--seeds', '2', '--data', 'shapes'], 'complexity trains nothing and takes no --data, --seeds'),
        (['complexity', '--jobs', '2', '--cfg-options', 'a=1'], 'takes no --cfg-options, --jobs;'),
        (['complexity', '--gpus', '1'], 'takes no --gpus; CUDA_VISIBLE_DEVICES chooses its GPU'),
        (['boundary', '--data', 'shapes', '--seeds', '1', '--against', 'CARAFE'], '--against compares over seeds and needs at least two'),
    ],
)
def test_options_that_would_have_no_effect(call, arguments, message):
    code, out, err = call(Stub(fail=['.']), *arguments, '--dry-run')
    assert (code, out, len(err.splitlines())) == (2, '', 1)
    assert message in err


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--gpus', '0', '0'], '--gpus takes distinct indices from 0, a multiple of 1 of them, got 0 0'),
        (['--gpus', '0', '-1'], '--gpus takes distinct indices from 0'),
        (['--gpus', '0', '1', '2', '--gpus-per-row', '2'], '--gpus takes distinct indices from 0, a multiple of 2 of them, got 0 1 2'),
        (['--gpus-per-row', '2'], '--gpus-per-row needs --gpus'),
        (['--rows', 'FPN'], "segformer has no row 'FPN'; there are nearest"),
        (['--rows', 'SAPA-G'], 'nothing of segformer can be trained with --data coco: This package has no such upsampler'),
        (['--cfg-options', 'modle.x=1'], 'did you mean model?'),
    ],
)
def test_wrong_use_is_one_line(call, tmp_path, arguments, message):
    stub = Stub()
    code, out, err = call(stub, 'segformer', *arguments)
    assert (code, out, stub.commands, len(err.splitlines())) == (2, '', [], 1)
    assert message in err
    assert not (tmp_path / 'out').exists()


def test_wrong_names_data_and_paths(call, tmp_path, monkeypatch):
    for arguments in (['fcos'], ['segformer', '--data', 'cityscapes']):
        code, _, err = call(Stub(), *arguments)
        assert (code, 'Traceback' in err, 'invalid choice' in err) == (2, False, True)
    assert 'nothing of boundary can be trained with --data coco: no config for --data coco' in call(Stub(), 'boundary', '--data', 'coco')[2]
    assert '--rows needs one table' in call(Stub(), 'all', '--rows', 'CARAFE')[2]
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3')
    assert '--gpus takes indices from 0 into CUDA_VISIBLE_DEVICES=3, got 3' in call(Stub(), 'boundary', '--gpus', '3')[2]
    (tmp_path / 'out').touch()
    code, _, err = call(Stub(), 'segformer', '--rows', 'CARAFE')
    assert (code, err) == (2, f'error: --out takes a folder, got the file {tmp_path / "out"}\n')


@pytest.mark.parametrize(
    ('there', 'sees'),
    [(0, 'no GPU; leave out --gpus to train on the CPU'), (1, 'the GPU 0'), (4, 'the GPUs 0 to 3'), (5, None)],
)
def test_gpus_that_are_not_there(call, tmp_path, monkeypatch, there, sees):
    """torch would train on the CPU, for weeks."""
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: there)
    stub, arguments = Stub(), ('segformer', '--rows', 'CARAFE', '--gpus', '0', '4')
    assert call(Stub(), *arguments, '--dry-run')[0] == 0  # for another machine
    code, _, err = call(stub, *arguments)
    assert (code, bool(stub.commands)) == ((2, False) if sees else (0, True))
    assert not sees or err == f'error: --gpus 0 4: torch sees {sees}\n'


def test_without_data_nothing_starts(call, tmp_path, monkeypatch):
    monkeypatch.setenv('ADE20K_ROOT', str(tmp_path / 'no-ade'))
    monkeypatch.setattr(command, 'prepare_data', prepare_data)
    stub = Stub()
    code, out, err = call(stub, 'segformer', '--data', 'coco')
    assert (code, out, stub.commands, (tmp_path / 'out').exists()) == (2, '', [], False)
    assert err.count('there is no data folder') == 1
    assert str(tmp_path / 'no-ade') in err


def test_what_has_data_is_trained(tmp_path, monkeypatch):
    monkeypatch.setenv('ADE20K_ROOT', str(tmp_path / 'no-ade'))
    monkeypatch.setattr(command, 'prepare_data', prepare_data)
    with_it, *without = (
        one.trainings[0]
        for data, rows in (('shapes', ['CARAFE']), ('coco', ['CARAFE', 'FADE', 'A2U']))
        for one in planned('segformer', data, *rows)
    )
    trainings, (line,) = command.with_data([without[0], with_it, *without[1:]], {})
    assert trainings == [with_it]
    assert line.startswith('not trained: 3 of segformer_b1_dysample.py: there is no data folder')


def test_slurm(call, tmp_path):
    arguments = ('ablation', '--data', 'shapes', '--rows', 'segformer_LP+', 'segformer_static_scope', 'segformer_scope_0.25')
    stub = Stub()
    code, out, _ = call(stub, *arguments, '--slurm', 'gpu', '--gpus-per-row', '2', '--gpus', '0', '1', '--seeds', '2')
    assert (code, stub.commands, (tmp_path / 'out').exists()) == (0, [], False)
    jobs = [shlex.split(line) for line in out.splitlines()]
    assert [job[2] for job in jobs] == ['--job-name=ablation_shapes-segformer_LP+', '--job-name=ablation_shapes-segformer_static_scope']
    assert (jobs[0][1], jobs[0][3], jobs[0][-2]) == ('--partition=gpu', '--gres=gpu:2', '--wrap')
    inner = shlex.split(jobs[0][-1])
    args = command.make_parser().parse_args(inner[4:])
    assert (args.table, args.data, args.rows, args.seeds, args.gpus, args.gpus_per_row) == (
        'ablation',
        'shapes',
        ['segformer_LP+'],
        2,
        [0, 1],
        2,
    )
    assert args.out == str(tmp_path / 'out')


def test_slurm_needs_no_gpus_here(call):
    code, out, err = call(Stub(), 'segformer', '--rows', 'CARAFE', '--slurm', 'gpu', '--gpus-per-row', '8')
    named = '--gpus 0 1 2 3 4 5 6 7'  # which --gpus-per-row needs
    assert (code, err) == (0, f'when the jobs have ended, the same command without --slurm and with {named} writes the whole table\n')
    assert '--gpus 0 1 2 3 4 5 6 7 --gpus-per-row 8' in out


def test_the_job_does_what_the_row_does(tmp_path, capsys):
    """Its trainings are complete for the whole table, which then prints no job."""
    options = ('--out', str(tmp_path / "a user's"), '--slurm', 'gpu', '--cfg-options', 'shapes.train=16')
    row = ('segformer', '--data', 'shapes', '--rows', 'CARAFE', *options)
    assert command.main(ROOT, Stub(fail=['.']), row) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert command.main(ROOT, Stub(), shlex.split(shlex.split(line)[-1])[4:]) == 0
    capsys.readouterr()
    assert command.main(ROOT, Stub(fail=['.']), row) == 0
    assert capsys.readouterr().out == ''


def test_dry_run(call, tmp_path):
    rows = ('faster_rcnn_naive', 'segformer_naive')
    stub = Stub()
    code, out, _ = call(stub, 'ablation', '--data', 'shapes', '--dry-run', '--rows', *rows, '--gpus', '0', '1', '--gpus-per-row', '2')
    assert (code, stub.commands, (tmp_path / 'out').exists()) == (0, [], False)
    lines = [line for line in out.splitlines() if line.startswith('env ')]
    assert len(lines) == 4
    subprocess.run(['bash', '-n'], input='\n'.join(lines), text=True, check=True)
    assert (
        shlex.split(lines[0])[shlex.split(lines[0]).index('--upsampler') + 1] == read_table('ablation').row('faster_rcnn_naive').upsampler
    )
    assert lines[1].endswith('/last_checkpoint)')
    assert lines[3].endswith('/best_*.pth')
    assert '37.9' not in out  # Shapes is compared with nothing
