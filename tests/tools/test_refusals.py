"""A command that is refused leaves the work directory as it was, whatever the reason."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from forked import run_forked

from mmdysample.engine.files import LOCK, hold

pytestmark = pytest.mark.slow

SEGFORMER = 'configs/shapes/segformer_b1_dysample_shapes.py'
# A loop over iterations starts its workers when it is built, and a loader that is deleted before it is used waits 5 s for each of them.
LOADERS = [f'{split}_dataloader.{option}' for split in ('train', 'val') for option in ('num_workers=0', 'persistent_workers=False')]
PRETRAINED = ['model.backbone.init_cfg._delete_=True', 'model.backbone.init_cfg.type=Pretrained']
OPTIONS = ['shapes.train=16', 'shapes.val=8', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2', *LOADERS]


@pytest.fixture(scope='module')
def environment(shapes):
    return {**os.environ, 'SHAPES_ROOT': str(shapes), 'PYTHONWARNINGS': 'ignore'}


@pytest.fixture
def refused(environment, tmp_path_factory):
    """Run a tool that must refuse, in a process of its own, and return its line."""

    def run(name, *arguments):
        done = run_forked((ROOT / f'tools/{name}.py', *arguments), environment, ROOT, tmp_path_factory.mktemp('printed'))
        assert done.returncode == 2, done.stdout[-3000:] + done.stderr[-3000:]
        (line,) = done.stderr.splitlines()
        assert line.startswith('error: ')
        return line

    return run


@pytest.fixture(scope='module')
def trained(environment, tmp_path_factory):
    """The work directory of a training that is complete."""
    work = tmp_path_factory.mktemp('trained') / 'work'
    command = (ROOT / 'tools/train.py', SEGFORMER, '--work-dir', work, '--cfg-options', *OPTIONS)
    done = run_forked(command, environment, ROOT, tmp_path_factory.mktemp('printed'))
    assert done.returncode == 0, done.stderr[-3000:]
    return work


@pytest.fixture
def work(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / 'work')


def content(folder):
    """All files and folders below a folder, with their bytes."""
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob('*'))}


REFUSED = {
    'another upsampler': (['--resume', '--upsampler', 'DySample+'], [], 'upsample_cfg.type'),
    'another learning rate': (['--resume'], ['optim_wrapper.optimizer.lr=0.5'], 'optim_wrapper.optimizer.lr'),
    'another optimizer': (['--resume'], ['optim_wrapper.optimizer._delete_=True', 'optim_wrapper.optimizer.type=SGD'], 'SGD'),
    'another scope factor': (['--resume'], ['model.decode_head.upsample_cfg.scope_factor=0.5'], 'scope_factor'),
    'another seed': (['--resume'], ['randomness.seed=7'], 'seed'),
    'no resume': ([], [], 'of an earlier run'),
    'no checkpoint': (['--resume', 'none.pth'], [], 'there is no checkpoint none.pth'),
    'an unknown upsampler': (['--resume', '--upsampler', 'DySampel'], [], 'DySample'),
    'an unknown module': (['--resume'], ['model.decode_head.type=NoHead'], 'NoHead'),
    'an unknown argument': (['--resume'], ['model.decode_head.nothing=1'], 'nothing'),
    'an unknown hook': (['--resume'], ['default_hooks.timer.type=NoHook'], 'NoHook'),
    'an unknown optimizer': (['--resume'], ['optim_wrapper.optimizer.type=NoOptimizer'], 'NoOptimizer'),
    'an unknown metric': (['--resume'], ['val_evaluator.type=NoMetric'], 'NoMetric'),
    'a missing file of weights': (['--resume'], [*PRETRAINED, 'model.backbone.init_cfg.checkpoint=a.pth'], 'there is no checkpoint a.pth'),
    'missing data': (['--resume', '--data-root', 'nowhere'], [], 'nowhere'),
    'no GPU': (['--resume', '--amp'], [], '--amp needs a GPU'),
}


@pytest.mark.parametrize('kind', [kind for kind in REFUSED if kind != 'no GPU' or not torch.cuda.is_available()])
def test_a_training(refused, work, kind):
    before = content(work)
    arguments, options, told = REFUSED[kind]
    assert told in refused('train', SEGFORMER, *arguments, '--work-dir', work, '--cfg-options', *OPTIONS, *options)
    assert content(work) == before


@pytest.mark.parametrize('kind', [kind for kind in REFUSED if not kind.startswith(('another', 'no '))])
def test_a_training_in_a_new_folder(refused, tmp_path, kind):
    """Not even the folder is made."""
    arguments, options, _ = REFUSED[kind]
    arguments = ['--work-dir', tmp_path / 'a/b', *[argument for argument in arguments if argument != '--resume']]
    refused('train', SEGFORMER, *arguments, '--cfg-options', *OPTIONS, *options)
    assert not (tmp_path / 'a').exists()


def test_weights_of_another_model_to_start_from(refused, trained, tmp_path):
    options = [f'load_from={trained}/iter_2.pth', 'model.backbone.embed_dims=8']
    told = refused('train', SEGFORMER, '--work-dir', tmp_path / 'work', '--cfg-options', *OPTIONS, *options)
    assert 'is of another model' in told
    assert not (tmp_path / 'work').exists()


def test_pretrained_weights_that_do_not_fit(refused, tmp_path):
    """mmengine finds this out when training begins."""
    torch.save({'state_dict': {'conv.weight': torch.zeros(1)}}, tmp_path / 'a.pth')
    options = [*PRETRAINED, f'model.backbone.init_cfg.checkpoint={tmp_path}/a.pth']
    told = refused('train', SEGFORMER, '--work-dir', tmp_path / 'work', '--cfg-options', *OPTIONS, *options)
    assert 'a.pth holds 0 of the' in told
    assert not (tmp_path / 'work').exists()


HOLDING = 'import sys, pathlib; from mmdysample.engine.files import hold; hold(pathlib.Path(sys.argv[1])); print("held"); input()'


@pytest.mark.parametrize('arguments', [[], ['--resume'], ['--upsampler', 'CARAFE'], ['--resume', '--upsampler', 'CARAFE']])
@pytest.mark.parametrize('saved', [False, True])
def test_a_folder_in_which_another_training_runs(refused, work, arguments, saved):
    if not saved:
        for path in work.glob('*.pth'):
            path.unlink()
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
    with subprocess.Popen([sys.executable, '-c', HOLDING, work], **pipes) as other:
        assert other.stdout.readline() == 'held\n'
        before = content(work)
        told = refused('train', SEGFORMER, *arguments, '--work-dir', work, '--cfg-options', *OPTIONS)
        other.communicate('\n')
    assert 'another training writes to' in told or (saved and ('earlier run' in told or 'upsample_cfg.type' in told))
    assert content(work) == before


def test_every_process_of_a_training_is_refused(environment, work):
    """Not only the first one, which asks for the lock: the others would write the folder of a log."""
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
    with subprocess.Popen([sys.executable, '-c', HOLDING, work], **pipes) as other:
        assert other.stdout.readline() == 'held\n'
        before = content(work)
        launch = ['-m', 'mmdysample.engine.torchrun', '--standalone', '--nproc_per_node=2', 'tools/train.py', SEGFORMER]
        arguments = ['--launcher', 'pytorch', '--resume', '--work-dir', work, '--cfg-options', *OPTIONS]
        done = subprocess.run([sys.executable, *launch, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        other.communicate('\n')
    assert done.returncode == 2, done.stderr[-3000:]
    assert set(done.stderr.splitlines()) == {
        f'error: another training writes to {work}: wait until it has ended, or choose another --work-dir'
    }
    assert content(work) == before


@pytest.mark.parametrize(
    ('arguments', 'told'),
    [
        (['--upsampler', 'DySample+'], 'is not a checkpoint of this model'),
        (['--out', 'a.txt'], '--out must end in .pkl'),
        (['--show-dir', SEGFORMER], '--show-dir takes a folder'),
        (['--data-root', 'nowhere'], 'nowhere'),
        (['--cfg-options', 'model.decode_head.type=NoHead'], 'NoHead'),
        (['--cfg-options', 'test_evaluator.0.type=NoMetric'], 'NoMetric'),
    ],
)
def test_a_test(refused, work, arguments, told):
    before = content(work)
    assert told in refused('test', work / Path(SEGFORMER).name, work / 'iter_2.pth', '--work-dir', work, *arguments)
    assert content(work) == before


def test_a_test_with_a_broken_file(refused, work):
    broken = work / 'iter_2.pth'
    broken.write_bytes(broken.read_bytes()[:5000])
    before = content(work)
    refused('test', work / Path(SEGFORMER).name, broken, '--work-dir', work)
    assert content(work) == before


def test_the_lock_stays_if_it_was_there(refused, work):
    assert (work / LOCK).is_file()
    refused('train', SEGFORMER, '--resume', '--upsampler', 'DySample+', '--work-dir', work, '--cfg-options', *OPTIONS)
    assert (work / LOCK).is_file()
    hold(work)  # and it is free
