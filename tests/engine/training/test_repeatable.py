import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner

from mmdysample.engine.checkpoint import checkpoints, secure_loading
from mmdysample.engine.training.repeatable import why_not_repeatable
from mmdysample.engine.training.saving import CheckpointHook

IMAGES = 4  # of one epoch, in as many iterations
LENGTHS = {'epochs': {'by_epoch': True, 'max_epochs': 3}, 'iterations': {'by_epoch': False, 'max_iters': 6}}


class Linear(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return {'loss': self.layer(torch.stack(list(inputs))).square().mean()}


class Note(Hook):
    def before_train(self, runner):
        self.line = why_not_repeatable(runner)


def build(folder, loop, hook, counts, load_from=None, deterministic=True):
    sampler = {'type': 'DefaultSampler' if loop == 'epochs' else 'InfiniteSampler', 'shuffle': True}
    return Runner(
        Linear(),
        str(folder),
        train_dataloader={'dataset': [torch.tensor([float(i)]) for i in range(IMAGES)], 'batch_size': 1, 'sampler': sampler},
        train_cfg=dict(LENGTHS[loop]),
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.01, 'momentum': 0.9}, 'accumulative_counts': counts},
        default_hooks={'checkpoint': {'type': CheckpointHook, **hook}},
        default_scope='mmengine',
        randomness={'seed': 3, 'deterministic': deterministic},
        load_from=load_from and str(load_from),
        resume=load_from is not None,
        log_level='ERROR',
        experiment_name=f'{folder.parent.name}{folder.name}',
    )


def train(folder, *arguments, **options):
    runner, note = build(folder, *arguments, **options), Note()
    runner.register_hook(note)
    try:
        return runner.train().state_dict(), note.line
    finally:
        torch.use_deterministic_algorithms(False)


EPOCHS, ITERATIONS = {'by_epoch': True}, {'by_epoch': False}


@pytest.mark.parametrize(
    ('loop', 'hook', 'counts', 'told'),
    [
        ('epochs', {**EPOCHS, 'interval': 1}, 1, None),
        ('epochs', {**EPOCHS, 'interval': 1}, 2, None),
        ('epochs', {**EPOCHS, 'interval': 1}, 3, 'a checkpoint is saved after 4 iterations, and gradients are accumulated over 3 '),
        ('epochs', {**EPOCHS, 'interval': 1, 'save_begin': 2}, 8, None),
        ('epochs', {**EPOCHS, 'interval': 3}, 5, None),  # only the last one
        ('epochs', {**EPOCHS, 'interval': -1}, 5, None),
        ('epochs', {**ITERATIONS, 'interval': 3}, 1, 'by iteration in a training by epochs'),
        ('epochs', {**ITERATIONS, 'interval': IMAGES}, 1, 'by iteration in a training by epochs'),
        ('iterations', {**ITERATIONS, 'interval': 2}, 2, None),
        ('iterations', {**ITERATIONS, 'interval': 3}, 1, None),
        ('iterations', {**ITERATIONS, 'interval': 3}, 2, 'saved after 3 iterations, and gradients are accumulated over 2 '),
        ('iterations', {**ITERATIONS, 'interval': 2, 'save_begin': 3}, 2, 'saved after 3 iterations'),
        ('iterations', {**ITERATIONS, 'interval': 2}, 4, 'saved after 2 iterations'),
        ('iterations', {**EPOCHS, 'interval': 1}, 4, None),  # only the last one
    ],
)
def test_a_line_is_told_if_mmengine_ends_with_other_weights(tmp_path, loop, hook, counts, told):
    secure_loading()
    whole, line = train(tmp_path / 'whole', loop, hook, counts)
    _, *others = checkpoints(tmp_path / 'whole')
    ends = [train(tmp_path / path.stem, loop, hook, counts, load_from=path)[0] for path in others]
    assert all(torch.equal(end[name], whole[name]) for end in ends for name in whole) == (told is None)
    assert line is None if told is None else told in line


def test_only_where_repeating_is_asked_for(tmp_path, monkeypatch):
    arguments = 'iterations', {**ITERATIONS, 'interval': 3}, 2
    assert train(tmp_path / 'any', *arguments, deterministic=False)[1] is None
    with monkeypatch.context() as patched:
        patched.setattr(Runner, 'rank', 1)
        assert train(tmp_path / 'other', *arguments)[1] is None


def test_several_optimizers(tmp_path):
    runner = build(tmp_path / 'work', 'iterations', {**ITERATIONS, 'interval': 4}, 1)
    torch.use_deterministic_algorithms(False)
    for counts, told in ((4, False), (3, True)):
        wrappers = [OptimWrapper(torch.optim.SGD(runner.model.parameters(), 0.1), accumulative_counts=count) for count in (2, counts)]
        runner.optim_wrapper = OptimWrapperDict(one=wrappers[0], other=wrappers[1])
        assert bool(why_not_repeatable(runner)) == told
