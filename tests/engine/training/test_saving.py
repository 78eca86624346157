"""Trainings of a tiny model with our runner, in this process, that stop or are killed and go on."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import BaseModel
from mmengine.registry import HOOKS
from torch.utils.data import Dataset

from mmdysample.engine.checkpoint import checkpoints, secure_loading
from mmdysample.engine.errors import StoppedError
from mmdysample.engine.launch import build_runner, check_unchanged, set_deterministic
from mmdysample.engine.training.random_state import get_random_state, set_random_state
from mmdysample.registry import DATASETS, METRICS, MODELS

STEPS = 6


@MODELS.register_module()
class Drawing(BaseModel):
    """Draws random numbers of every kind in each step and in each evaluation, and sums up what it drew."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.register_buffer('drawn', torch.zeros(4, dtype=torch.float64))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        numbers = (torch.rand(()).item(), np.random.normal(), random.gauss(0, 1), float(inputs[0].sum()))
        if mode != 'loss':
            return [numbers]
        self.drawn += torch.tensor(numbers, dtype=torch.float64) * (1 + self.drawn.norm())  # the order counts
        return {'loss': torch.nn.functional.dropout(self.layer(torch.stack(list(inputs)))).square().mean()}


@DATASETS.register_module()
class Random(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {'inputs': torch.rand(3) + index + random.random() + np.random.rand(), 'data_samples': index}


@METRICS.register_module()
class Score(BaseMetric):
    best = False

    def process(self, data_batch, data_samples):
        self.results.append(0.0)

    def compute_metrics(self, results):
        return {'score': random.random() if self.best else 0.5}


def config(folder, by_epoch=False, workers=0, best=False, **changes):
    loader = {
        'dataset': {'type': 'Random'},
        'sampler': {'type': 'DefaultSampler' if by_epoch else 'InfiniteSampler', 'shuffle': True},
        'batch_size': 2,
        'num_workers': workers,
        'persistent_workers': workers > 0,
    }
    val = {**loader, 'num_workers': 0, 'persistent_workers': False, 'sampler': {'type': 'DefaultSampler', 'shuffle': False}}
    length = {'max_epochs': STEPS // 2, 'val_interval': 1} if by_epoch else {'max_iters': STEPS, 'val_interval': 2}
    made = Config(
        {
            'model': {'type': 'Drawing'},
            'work_dir': str(folder),
            'train_dataloader': loader,
            'val_dataloader': val,
            'train_cfg': {'by_epoch': by_epoch, **length},
            'val_cfg': {},
            'val_evaluator': [{'type': 'Score'}],
            'optim_wrapper': {'optimizer': {'type': 'AdamW', 'lr': 0.1}},
            'default_hooks': {
                'checkpoint': {'type': 'CheckpointHook', 'by_epoch': by_epoch, 'interval': 1 if by_epoch else 2}
                | ({'save_best': 'score', 'rule': 'greater'} if best else {})
            },
            'log_level': 'WARNING',
            'default_scope': 'mmdysample',
            'randomness': {'seed': 3},
        }
    )
    made.merge_from_dict(changes)
    set_deterministic(made)
    return made


def train(made, load_from=None):
    secure_loading()
    made.load_from, made.resume = (None, False) if load_from is None else (str(load_from), True)
    made.experiment_name = f'run{random.SystemRandom().random()}'  # mmengine keeps loggers by name
    runner = build_runner(made, to_train=True)
    try:
        runner.train()
    finally:
        torch.use_deterministic_algorithms(False)
        if iterator := runner.train_loop.dataloader._iterator:
            iterator._shutdown_workers()  # the garbage collector would wait 5 s for each


def content(path):
    return torch.load(path, weights_only=True)


def assert_same(one, other):
    for name in one['state_dict']:
        assert torch.equal(one['state_dict'][name], other['state_dict'][name]), name
    for key, state in one['optimizer']['state'].items():
        assert all(torch.equal(value, other['optimizer']['state'][key][name]) for name, value in state.items())


@pytest.mark.parametrize('best', [False, True])
@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('by_epoch', [False, True])
def test_a_resumed_training_is_the_training(tmp_path, monkeypatch, by_epoch, workers, best):
    """To the bit, although the evaluation draws random numbers too."""
    monkeypatch.setattr(Score, 'best', best)
    whole, resumed = tmp_path / 'whole', tmp_path / 'resumed'
    train(config(whole, by_epoch, workers, best))
    last, *others = checkpoints(whole)
    assert len(others) == 2
    for path in others:
        train(config(resumed / path.stem, by_epoch, workers, best), path)
        assert_same(content(last), content(resumed / path.stem / last.name))


def test_without_the_random_states_it_is_another(tmp_path, capfd):
    """The test above can fail. A line says so."""
    train(config(tmp_path / 'whole'))
    first, last = (tmp_path / 'whole' / f'iter_{step}.pth' for step in (2, 6))
    cut = content(first)
    assert len(cut.pop('random_states')) == 1
    torch.save(cut, tmp_path / 'cut.pth')
    train(config(tmp_path / 'resumed'), tmp_path / 'cut.pth')
    drawn = [content(path)['state_dict']['drawn'] for path in (last, tmp_path / 'resumed/iter_6.pth')]
    assert not torch.equal(*drawn)
    assert 'the checkpoint holds no random states' in ' '.join(capfd.readouterr().out.split())


def test_states_of_another_number_of_processes_are_left(tmp_path, capfd):
    train(config(tmp_path / 'whole'))
    first = content(tmp_path / 'whole/iter_2.pth')
    first['random_states'] *= 4
    torch.save(first, tmp_path / 'of_four.pth')
    train(config(tmp_path / 'resumed'), tmp_path / 'of_four.pth')
    assert 'is of 4 processes and this training has 1' in ' '.join(capfd.readouterr().out.split())


def test_random_state():
    draw = lambda: (random.gauss(0, 1), np.random.normal(), np.random.randint(9), torch.rand(2).tolist(), random.random())  # noqa: E731
    draw()
    state = get_random_state()
    first = draw()
    assert draw() != first
    set_random_state(state)
    assert draw() == first


class Killed(BaseException):
    """Stands in for SIGKILL: nothing handles it."""


@pytest.mark.parametrize('best', [False, True])
@pytest.mark.parametrize('keep', [1, 2])
def test_killed_within_any_save(tmp_path, monkeypatch, keep, best):
    """The n-th writing of a file stops in the middle; there always is a complete checkpoint from which training goes on to the same end."""
    monkeypatch.setattr(Score, 'best', best)
    options = {'default_hooks.checkpoint.max_keep_ckpts': keep}
    train(config(tmp_path / 'whole', best=best, **options))
    assert len(checkpoints(tmp_path / 'whole')) == keep
    expected = content(tmp_path / 'whole/iter_6.pth')
    put = LocalBackend.put

    for number in range(2, 12):
        writes = iter(range(1, 100))

        def torn(self, obj, filepath, number=number, writes=writes):
            if next(writes) == number:
                put(self, obj[: len(obj) // 2], filepath)
                raise Killed
            put(self, obj, filepath)

        folder = tmp_path / str(number)
        with monkeypatch.context() as patched:
            patched.setattr(LocalBackend, 'put', torn)
            try:
                train(config(folder, best=best, **options))
            except Killed:
                pass
            else:
                break
        saved = checkpoints(folder)
        assert saved
        assert all(content(path)['state_dict'] for path in folder.glob('*.pth'))
        train(config(folder, best=best, **options), saved[0])
        assert_same(expected, content(folder / 'iter_6.pth'))
        assert len(checkpoints(folder)) == keep
    assert number > 3


def test_a_full_disk_costs_no_checkpoint(tmp_path, monkeypatch):
    put = LocalBackend.put

    def full(self, obj, filepath):
        put(self, obj[:1000], filepath)
        if 'iter_4' in Path(filepath).name:
            raise OSError(28, 'No space left on device')
        put(self, obj, filepath)

    monkeypatch.setattr(LocalBackend, 'put', full)
    told = rf'^{tmp_path} cannot be written: .*No space left on device; iter_2\.pth is saved: continue with --resume$'
    with pytest.raises(StoppedError, match=told):
        train(config(tmp_path, **{'default_hooks.checkpoint.max_keep_ckpts': 1}))
    assert [path.name for path in tmp_path.glob('*iter_*')] == ['iter_2.pth']
    assert content(tmp_path / 'iter_2.pth')['meta']['iter'] == 2


@pytest.mark.parametrize('error', [OSError, KeyboardInterrupt])
def test_a_save_that_fails_leaves_no_part(tmp_path, monkeypatch, error):
    def torn(self, obj, filepath):
        Path(filepath).write_bytes(obj[:1000])
        raise error

    monkeypatch.setattr(LocalBackend, 'put', torn)
    with pytest.raises(error):
        train(config(tmp_path))
    assert not list(tmp_path.glob('*iter_*')) + list(tmp_path.glob('.*iter_*'))


@HOOKS.register_module()
class Stops(Hook):
    """Stops a training at a step, as a machine without memory does."""

    def __init__(self, step):
        self.step = step

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.step:
            raise MemoryError


@pytest.mark.parametrize(
    ('step', 'resumed', 'told'),
    [
        (1, None, '; no checkpoint was saved yet: start again with python tools/train.py a.py --resume'),
        (5, None, '; iter_4.pth is saved: continue with python tools/train.py a.py --resume'),
        (
            3,
            'iter_2.pth',
            '; no checkpoint was saved since iter_2.pth: continue with python tools/train.py a.py --resume {folder}/iter_2.pth',
        ),
        # --resume alone would take iter_6.pth, which is of the training before.
        (5, 'iter_2.pth', '; iter_4.pth is saved: continue with {command} {folder}/iter_4.pth'),
    ],
)
def test_the_command_continues_this_training(tmp_path, monkeypatch, step, resumed, told):
    line = ['tools/train.py', 'a.py']
    if resumed:
        train(config(tmp_path))
        line += ['--resume', str(tmp_path / resumed)]
    monkeypatch.setattr('sys.argv', line)
    monkeypatch.delattr('sys.orig_argv', raising=False)
    with pytest.raises(StoppedError) as stopped:
        train(config(tmp_path, custom_hooks=[{'type': 'Stops', 'step': step}]), resumed and tmp_path / resumed)
    assert str(stopped.value).endswith(told.format(command='python tools/train.py a.py --resume', folder=tmp_path))


@HOOKS.register_module()
class Another(CheckpointHook):
    """A checkpoint hook of a user."""


@pytest.mark.parametrize('kind', ['CheckpointHook', 'mmengine.CheckpointHook', 'mmdet.CheckpointHook'])
def test_the_hook_of_mmengine_is_replaced(tmp_path, capfd, kind):
    train(config(tmp_path, **{'default_hooks.checkpoint.type': kind}))
    assert 'random_states' in content(tmp_path / 'iter_6.pth')
    assert 'random states' not in ' '.join(capfd.readouterr().out.split())


def test_a_hook_that_saves_no_random_states_is_named(tmp_path, capfd):
    train(config(tmp_path, **{'default_hooks.checkpoint.type': 'Another'}))
    assert 'random_states' not in content(tmp_path / 'iter_6.pth')
    assert 'Another saves checkpoints without random states' in ' '.join(capfd.readouterr().out.split())


def test_a_training_that_ended_between_the_look_and_the_lock(tmp_path):
    runner = build_runner(config(tmp_path), to_train=True)
    check_unchanged(runner, [])
    (tmp_path / 'iter_2.pth').touch()
    with pytest.raises(ValueError, match=f'^another training has just written to {tmp_path}: give this command again$'):
        check_unchanged(runner, [])
    check_unchanged(runner, [tmp_path / 'iter_2.pth'])


def test_the_best_checkpoint_of_another_folder_stays(tmp_path, monkeypatch):
    """A training that resumes elsewhere still knows its path, and has better scores."""
    scores = iter(range(100))
    monkeypatch.setattr(Score, 'compute_metrics', lambda self, results: {'score': float(next(scores))})
    old, new = tmp_path / 'old', tmp_path / 'new'
    train(config(old, best=True, **{'train_cfg.max_iters': 2}))
    (best,) = old.glob('best_*')
    before = best.read_bytes()
    train(config(new, best=True), old / 'iter_2.pth')
    assert best.read_bytes() == before
    assert [path.name for path in new.glob('best_*')] == ['best_score_iter_6.pth']


def test_each_checkpoint_has_the_states_of_its_own_moment(tmp_path, capfd):
    """Also where two hooks save at different iterations."""
    second = {'type': 'CheckpointHook', 'by_epoch': False, 'interval': 2, 'filename_tmpl': 'extra_{}.pth'}
    options = {'default_hooks.checkpoint.interval': 1}
    train(config(tmp_path / 'whole', custom_hooks=[second], **options))
    for step in (2, 3):
        train(config(tmp_path / f'from{step}', custom_hooks=[second], **options), tmp_path / f'whole/iter_{step}.pth')
        assert_same(content(tmp_path / 'whole/iter_6.pth'), content(tmp_path / f'from{step}/iter_6.pth'))
    assert 'no random states' not in ' '.join(capfd.readouterr().out.split())


@HOOKS.register_module()
class SavesByItself(Hook):
    """A hook of a user, which saves checkpoints without a checkpoint hook."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 2:
            runner.save_checkpoint(runner.work_dir, 'iter_3.pth')


def test_a_checkpoint_that_no_hook_saves_has_no_states(tmp_path, capfd):
    train(config(tmp_path, custom_hooks=[{'type': 'SavesByItself'}]))
    train(config(tmp_path / 'resumed'), tmp_path / 'iter_3.pth')
    assert 'the checkpoint holds no random states' in ' '.join(capfd.readouterr().out.split())


def test_processes_that_see_different_folders(tmp_path, monkeypatch):
    runner = build_runner(config(tmp_path), to_train=True)
    monkeypatch.setattr('mmdysample.engine.launch.all_gather_object', lambda mine: [mine, (['iter_9.pth'], ['iter_9.pth'])])
    with pytest.raises(ValueError, match='^the processes of this training see different checkpoints .* that all of them share'):
        check_unchanged(runner, [])


@HOOKS.register_module()
class RemovesTheFolder(Hook):
    """Removes the work directory, as a user does who tidies up too early."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 1:
            shutil.rmtree(runner.work_dir)


def test_a_work_directory_that_is_removed_is_named(tmp_path):
    work = tmp_path / 'run'
    with pytest.raises(StoppedError, match=rf'^{work} cannot be written: .*No such file'):
        train(config(work, custom_hooks=[{'type': 'RemovesTheFolder'}]))
