import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner

from mmdysample.engine.checkpoint import secure_loading
from mmdysample.engine.training.resume import EvaluateFirst


class Counter(BaseModel):
    """Knows how many steps it has been trained for."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer('steps', torch.zeros((), dtype=torch.long))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == 'loss':
            self.steps += 1
            return {'loss': self.weight.sum()}
        return [self.steps.item()]


class Score(BaseMetric):
    """A score for each number of steps; the evaluation of one of them is killed."""

    def __init__(self, scores, die_at=None):
        super().__init__()
        self.scores, self.die_at, self.seen = scores, die_at, []

    def process(self, data_batch, data_samples):
        if data_samples[0] == self.die_at:
            raise KeyboardInterrupt
        self.results.append(data_samples[0])

    def compute_metrics(self, results):
        self.seen.append(results[0])
        return {'score': self.scores[results[0]]}


def train(folder, metric, resume_from=None, save_best='score', by_epoch=False):
    secure_loading()
    # With iterations, one pass over the data is the training: mmengine's loop sleeps for 2 s before each further pass.
    data = {
        'dataset': list(range(2 if by_epoch else 6)),
        'sampler': {'type': 'DefaultSampler', 'shuffle': False},
        'collate_fn': pseudo_collate,
        'batch_size': 1,
    }
    length = {'max_epochs': 3, 'val_interval': 1} if by_epoch else {'max_iters': 6, 'val_interval': 2}
    runner = Runner(
        Counter(),
        work_dir=str(folder),
        train_dataloader=data,
        val_dataloader=data,
        train_cfg={'by_epoch': by_epoch, **length},
        val_cfg={},
        val_evaluator=[metric],
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.1}},
        default_hooks={
            'checkpoint': {'type': 'CheckpointHook', 'by_epoch': by_epoch, 'interval': 1 if by_epoch else 2}
            | ({'save_best': save_best, 'rule': 'greater'} if save_best else {})
        },
        load_from=str(folder / resume_from) if resume_from else None,
        resume=resume_from is not None,
        experiment_name=f'{folder.name}-{len(list(folder.iterdir()))}',
    )
    runner.register_hook(EvaluateFirst())
    runner.train()


def best(folder):
    return [(path.name, torch.load(path)['state_dict']['steps'].item()) for path in folder.glob('best_*.pth')]


@pytest.mark.parametrize(('by_epoch', 'unit'), [(False, 'iter_{}'), (True, 'epoch_{}')])
@pytest.mark.parametrize('killed', [2, 4, 6])
def test_killed_in_an_evaluation(tmp_path, by_epoch, unit, killed):
    """The best is that of a training which was not: here, the one whose evaluation was killed."""
    scores = {2: 1.0, 4: 1.0, 6: 1.0, killed: 2.0}
    last, best_name = (unit.format(killed // 2 if by_epoch else killed) for _ in range(2))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Score(scores, die_at=killed), by_epoch=by_epoch)
    (tmp_path / f'best_score_{best_name}.pth').write_text('half')  # or a moment later
    metric = Score(scores)
    train(tmp_path, metric, f'{last}.pth', by_epoch=by_epoch)
    assert metric.seen == [step for step in (2, 4, 6) if step >= killed]
    assert best(tmp_path) == [(f'best_score_{best_name}.pth', killed)]


def test_a_best_one_is_left_as_it_is(tmp_path):
    scores = {2: 1.0, 4: 3.0, 6: 2.0}
    train(tmp_path, Score(scores))
    expected = best(tmp_path)
    train(tmp_path, Score(scores), 'iter_6.pth')
    assert best(tmp_path) == expected == [('best_score_iter_4.pth', 4)]


def test_where_no_best_is_kept_nothing_is_evaluated(tmp_path):
    scores = {2: 1.0, 4: 3.0, 6: 2.0}
    train(tmp_path, Score(scores), save_best=None)
    metric = Score(scores)
    train(tmp_path, metric, 'iter_6.pth', save_best=None)
    train(tmp_path, metric, 'iter_4.pth', save_best=None)
    assert metric.seen == [6]
