import copy
import os
from contextlib import nullcontext

import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner

from mmdysample.engine.checkpoint import secure_loading
from mmdysample.engine.training.changes import Code, check_changes, parse, seed_of

CONFIGS = sorted(path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)
OLD = dict(
    model=dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[1.0, 2.0], size=(64, 64), batch_augments=None),
        backbone=dict(type='ResNet', strides=(1, 2), init_cfg=None, with_cp=False, norm_cfg=dict(type='BN', eps=1e-5)),
        decode_head=[dict(upsample_cfg=dict(type='DySample', groups=4), loss_decode=dict(loss_weight=1.0), act_cfg=dict(type='ReLU'))] * 2,
        auxiliary_head=dict(loss_decode=[dict(loss_weight=0.4)], channels=8, matrix='x8.pth'),
        train_cfg=dict(rcnn=dict(num=64)),
        test_cfg=dict(mode='whole'),
    ),
    optim_wrapper=dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=0.02, betas=(0.9, 0.999)),
        paramwise_cfg=dict(custom_keys={'norm.weight': dict(decay_mult=0.0)}),
        clip_grad=dict(max_norm=1.0),
        generator=dict(optimizer=dict(lr=1.0)),
    ),
    param_scheduler=[dict(type='LinearLR', end=30), dict(type='PolyLR', begin=30, end=600)],
    train_cfg=dict(type='IterBasedTrainLoop', max_iters=600, val_interval=100),
    train_dataloader=dict(
        batch_size=4,
        num_workers=2,
        sampler=dict(type='InfiniteSampler', shuffle=True),
        dataset=dict(type='Images', data_root='/data', pipeline=[dict(type='Load'), dict(type='Flip', prob=0.5)]),
    ),
    val_dataloader=dict(batch_size=1),
    custom_hooks=None,
    default_hooks=dict(checkpoint=dict(interval=100, save_best='mAcc'), logger=dict(interval=50)),
    randomness=dict(seed=3),
    visualizer=dict(type='Visualizer'),
    work_dir='work',
)


def config(changes=()):
    made = Config(copy.deepcopy(OLD), format_python_code=False)
    made.merge_from_dict(dict(changes))
    return made


CONTENT = {'meta': {'cfg': config().pretty_text, 'seed': 3}}


def check(changes):
    return check_changes(config(changes), CONTENT, 'w/iter_100.pth')


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_read_as_it_is(path, tmp_path):
    """Also the copy in the work directory, with which users resume."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    loaded = Config.fromfile(path, format_python_code=False)
    text = loaded.pretty_text
    assert parse(text) == plain(loaded.to_dict())
    (tmp_path / 'saved.py').write_text(text)
    saved = Config.fromfile(tmp_path / 'saved.py')  # formatted
    assert check_changes(saved, {'meta': {'cfg': text}}, 'x.pth') == []


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ("dict(a=1, b='x', c=None, d=True)", {'a': 1, 'b': 'x', 'c': None, 'd': True}),
        ("dict({'a.b': 1, 2: -0.5}, c=(1, (2,)))", {'a.b': 1, 2: -0.5, 'c': [1, [2]]}),
        ("{'x', 'a'}", ['a', 'x']),
        ("b'x'", b'x'),
    ],
)
def test_parse(text, value):
    assert parse(f'a = {text}') == {'a': value}


@pytest.mark.parametrize(
    'text',
    [
        "float('inf')",
        '-inf',
        'nan',
        'torch.float16',
        'dict(**x)',
        'dict(1)',
        'dict({}, {})',
        'lambda x: x',
        '[i for i in x]',
        "-'a'",
        '{**x}',
        '2 ** 9',
    ],
)
def test_code_equals_only_the_same_code(text):
    assert isinstance(parse(f'a = {text}')['a'], Code)
    assert parse(f'a = [{text}]') == parse(f'a=[ {text}, ]')
    assert parse(f'a = {text}') != parse('a = x')
    assert parse(f'a = {text}') != parse(f'a = {text!r}')


def test_nothing_is_executed(tmp_path):
    command = f"__import__('pathlib').Path({str(tmp_path / 'x')!r}).touch()"
    for text in (command, f'a = {command}', f'a = dict(b={command})', f'a = [{command}]', f'{{{command}: 1}}', f'def f(x={command}): pass'):
        parse(text)
        check_changes(config(), {'meta': {'cfg': text + '\n' + config().pretty_text}}, 'x.pth')
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ('changes', 'told'),
    [
        ({'default_hooks.checkpoint.save_best': 'mIoU'}, "default_hooks.checkpoint.save_best from 'mAcc' to 'mIoU', and --resume keeps"),
        ({'optim_wrapper.optimizer.lr': 0.01}, 'optim_wrapper.optimizer.lr from 0.02 to 0.01, and --resume keeps what w/iter_100.pth has'),
        ({'optim_wrapper.optimizer.betas': (0.9, 0.9)}, 'betas from [0.9, 0.999] to [0.9, 0.9], and'),
        ({'optim_wrapper.optimizer.momentum': 0.9}, 'momentum from (not set) to 0.9, and'),
        ({'optim_wrapper.optimizer.type': 'SGD'}, "optimizer.type from 'AdamW' to 'SGD', and"),
        ({'optim_wrapper.constructor': 'LayerDecay'}, "constructor from (not set) to 'LayerDecay', and --resume"),
        ({'optim_wrapper.paramwise_cfg': None}, 'to None, and --resume'),
        ({'optim_wrapper.generator.optimizer.lr': 2.0}, 'generator.optimizer.lr from 1.0 to 2.0, and --resume'),
        ({'param_scheduler.1.end': 900, 'train_cfg.max_iters': 900}, 'param_scheduler.1.end from 600 to 900, and --resume'),
        ({'param_scheduler': [dict(type='PolyLR')]}, "from [2 entries] to [{'type': 'PolyLR'}], and --resume"),
        ({'auto_scale_lr': dict(enable=True)}, "auto_scale_lr from (not set) to {'enable': True}, and --resume"),
        ({'randomness.seed': 4}, 'randomness.seed from 3 to 4, and --resume'),
        ({'model.decode_head.1.upsample_cfg.groups': 8}, 'upsample_cfg.groups from 4 to 8, and w/iter_100.pth is of the model before this'),
        ({'model.decode_head.0.upsample_cfg.scope_factor': 0.5}, 'scope_factor from (not set) to 0.5, and w/'),
        ({'model.decode_head.0.act_cfg.type': 'GELU'}, "type from 'ReLU' to 'GELU', and w/"),
        ({'model.backbone.norm_cfg.eps': 1e-3}, 'eps from 1e-05 to 0.001, and w/'),
        ({'model.backbone.strides': (2, 2)}, 'model.backbone.strides from [1, 2] to [2, 2], and w/'),
        ({'model.backbone.norm_cfg': None}, 'norm_cfg from {'),
        ({'model.data_preprocessor.mean': [0.0, 0.0]}, 'model.data_preprocessor.mean from [1.0, 2.0] to [0.0, 0.0], and w/'),
        ({'model.auxiliary_head.channels': 4}, 'model.auxiliary_head.channels from 8 to 4, and w/'),
        ({'model.auxiliary_head.matrix': None}, "matrix from 'x8.pth' to None, and w/"),  # the matrix would be trained
        ({'model.backbone.norm_cfg.type': 'GN'}, "norm_cfg.type from 'BN' to 'GN', and w/"),
    ],
)
def test_refused(changes, told):
    with pytest.raises(ValueError, match=r'^the config changes ') as error:
        check(changes)
    assert told in str(error.value)
    assert '\n' not in str(error.value)
    assert '--cfg-options load_from=w/iter_100.pth and another --work-dir' in str(error.value)


def test_several_changes_are_counted():
    lr, model = {f'optim_wrapper.optimizer.{key}': 1 for key in 'abcde'}, {'model.type': 'Other'}
    with pytest.raises(
        ValueError, match=r"^the config changes model\.type from 'EncoderDecoder' to 'Other', and .*; the config changes"
    ) as error:
        check({**lr, **model})
    assert 'optimizer.c from (not set) to 1 and 2 more, and --resume keeps' in str(error.value)
    assert 'give the old values, or' in str(error.value)


LENGTH = '; the learning rate and its schedule stay as they were'


@pytest.mark.parametrize(
    ('changes', 'told'),
    [
        ({'train_cfg.max_iters': 900}, [f'the config changes train_cfg.max_iters from 600 to 900{LENGTH}']),
        ({'train_dataloader.batch_size': 8}, [f'batch_size from 4 to 8{LENGTH}, and images come in another order']),
        ({'train_dataloader.dataset.data_root': '/other'}, ["data_root from '/data' to '/other'; this takes effect from here on"]),
        ({'train_dataloader.dataset.pipeline.1.prob': 0.0}, ['pipeline.1.prob from 0.5 to 0.0; this']),
        ({'train_dataloader.sampler.shuffle': False}, ['sampler.shuffle from True to False; this']),
        ({'train_cfg.val_interval': 9}, ['val_interval from 100 to 9; this']),
        ({'custom_hooks': [dict(type='EMAHook')]}, ["custom_hooks from (not set) to [{'type': 'EMAHook'}]; this"]),
        ({'optim_wrapper.type': 'AmpOptimWrapper', 'optim_wrapper.loss_scale': 'dynamic'}, ["'AmpOptimWrapper', optim_wrapper.loss_scale"]),
        ({'optim_wrapper.clip_grad': None}, ["clip_grad from {'max_norm': 1.0} to None; this"]),
        ({'optim_wrapper.accumulative_counts': 4}, ['accumulative_counts from (not set) to 4; this']),
        ({'model.train_cfg.rcnn.num': 32}, ['model.train_cfg.rcnn.num from 64 to 32; this']),
        ({'model.auxiliary_head.loss_decode.0.loss_weight': 0.1}, ['loss_weight from 0.4 to 0.1; this']),
        ({'model.data_preprocessor.batch_augments': [dict(size=1)]}, ['batch_augments from None to']),
        ({'train_cfg.val_interval': 9, 'train_dataloader.batch_size': 8}, ['val_interval', 'batch_size']),
        # silent
        ({'model.backbone.init_cfg': 'x', 'model.backbone.with_cp': True, 'model.test_cfg.mode': 'slide'}, []),
        ({'train_dataloader.num_workers': 0, 'train_dataloader.pin_memory': True}, []),
        ({'work_dir': 'x', 'load_from': 'y', 'resume': True, 'launcher': 'pytorch', 'val_dataloader.batch_size': 2}, []),
        ({'default_hooks.checkpoint.rule': 'greater'}, []),
        ({'default_hooks.checkpoint.interval': 1, 'visualizer.type': 'Other', 'randomness.deterministic': True}, []),
        ({'randomness.seed': None, 'auto_scale_lr': None, 'custom_hooks': None}, []),
        ({'auto_scale_lr': dict(base_batch_size=16)}, []),
        ({'model.auxiliary_head.matrix': '/moved/x8.pth'}, []),
        ({'data_preprocessor': dict(mean=[0.0])}, []),
        ({'model.backbone.norm_cfg.type': 'SyncBN'}, []),
        ({'model.backbone.norm_cfg.type': 'SyncBN', 'launcher': 'pytorch'}, ["norm_cfg.type from 'BN' to 'SyncBN'; this takes effect"]),
    ],
)
def test_told(changes, told):
    lines = check(changes)
    assert len(lines) == len(told)
    for line, part in zip(lines, told):
        assert part in line


@pytest.mark.parametrize(
    ('old', 'new', 'refused'),
    [
        (dict(enable=False, base_batch_size=16), dict(base_batch_size=8), False),
        (dict(enable=False, base_batch_size=16), dict(enable=True, base_batch_size=16), True),
        (dict(enable=True, base_batch_size=16), dict(enable=True, base_batch_size=8), True),
        (dict(enable=True, base_batch_size=16), None, True),
    ],
)
def test_scaling_of_the_learning_rate(old, new, refused):
    old, new = config({'auto_scale_lr': old}), config({'auto_scale_lr': new})
    with pytest.raises(ValueError, match='auto_scale_lr') if refused else nullcontext():
        assert check_changes(new, {'meta': {'cfg': old.pretty_text}}, 'x.pth') == []


def moved(mean):
    made = config({'model.data_preprocessor.mean': mean})
    made.data_preprocessor = made.model.pop('data_preprocessor')
    return made


def test_a_data_preprocessor_at_the_top_level():
    """mmengine gives it to a model that has none."""
    inside, outside = config(), moved([1.0, 2.0])
    for old, new in ((inside, outside), (outside, inside)):
        assert check_changes(new, {'meta': {'cfg': old.pretty_text}}, 'x.pth') == []
    for old, new in ((inside, moved([0.0, 2.0])), (moved([0.0, 2.0]), outside)):
        with pytest.raises(ValueError, match=r'changes model\.data_preprocessor\.mean from'):
            check_changes(new, {'meta': {'cfg': old.pretty_text}}, 'x.pth')


def test_an_epoch_has_no_order_to_keep():
    old, new = (config({'train_cfg': dict(_delete_=True, max_epochs=8), 'train_dataloader.batch_size': size}) for size in (2, 4))
    assert check_changes(new, {'meta': {'cfg': old.pretty_text}}, 'x.pth')[0].endswith(LENGTH)


@pytest.mark.parametrize(
    'meta',
    [
        None,
        {},
        {'cfg': None},
        {'cfg': 'a = ('},
        {'cfg': '\0'},
        {'cfg': '(' * 9999},
        {'cfg': 'a = ' + '-' * 99999 + '1'},
        {'cfg': b'\xff'},
        'x',
        [],
    ],
)
def test_no_config_to_compare_with(meta):
    (line,) = check_changes(config(), {'meta': meta}, 'x.pth')
    assert line.startswith('x.pth holds no config that can be read')


@pytest.mark.parametrize(
    ('meta', 'seed'), [({'seed': 5}, 5), ({'seed': 0}, 0), ({'seed': 'x'}, None), ({'seed': True}, None), ({}, None), (4, None)]
)
def test_seed(meta, seed):
    assert seed_of({'meta': meta}) == seed
    assert seed_of({}) is None


def test_a_seed_that_was_drawn_is_kept_too():
    with pytest.raises(ValueError, match='seed from 77 to 3'):
        check_changes(config(), {'meta': {'cfg': config({'randomness.seed': None}).pretty_text, 'seed': 77}}, 'x.pth')


def test_types_that_are_imported(tmp_path):
    """Configs of the new style hold classes, and not their names."""
    text = (
        'from torch.optim import SGD, AdamW\noptim_wrapper = dict(optimizer=dict(type=AdamW, lr=float("1.0")))\nlog = dict(every=[AdamW])\n'
    )
    (tmp_path / 'new.py').write_text(text)
    (tmp_path / 'other.py').write_text(text.replace('type=AdamW', 'type=SGD'))
    new = Config.fromfile(tmp_path / 'new.py')
    content = {'meta': {'cfg': new.pretty_text}}
    assert check_changes(new, content, 'x.pth') == []
    with pytest.raises(ValueError, match=r"optimizer\.type from 'torch\.optim.*AdamW' to 'torch\.optim.*SGD'"):
        check_changes(Config.fromfile(tmp_path / 'other.py'), content, 'x.pth')


class Linear(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return {'loss': self.layer(torch.stack(list(inputs))).mean()}


def test_mmengine_keeps_what_is_refused(tmp_path):
    """And takes what is told."""
    secure_loading()

    def run(name, lr, gamma, clip, load_from=None):
        runner = Runner(
            Linear(),
            str(tmp_path),
            train_dataloader=dict(dataset=[torch.ones(2)] * 4, batch_size=1, sampler=dict(type='DefaultSampler', shuffle=True)),
            train_cfg=dict(by_epoch=True, max_epochs=1 if load_from is None else 2),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=lr), clip_grad=dict(max_norm=clip)),
            param_scheduler=[dict(type='ExponentialLR', gamma=gamma, end=9)],
            default_scope='mmengine',
            load_from=load_from,
            resume=load_from is not None,
            experiment_name=f'{tmp_path.name}{name}',
        )
        runner.train()
        return runner

    run('first', 0.5, 0.5, 1.0)
    runner = run('second', 8.0, 1.0, 2.0, str(tmp_path / 'epoch_1.pth'))
    assert runner.optim_wrapper.param_groups[0]['lr'] == 0.5**3
    assert runner.optim_wrapper.clip_grad_kwargs == dict(max_norm=2.0)
