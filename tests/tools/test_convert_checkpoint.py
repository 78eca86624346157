"""The command line: what it reads, what it writes, and what it refuses in one line."""

import os

import numpy as np
import pytest
import torch

pytest.importorskip('mmdet')
from mmdysample.engine.config import load_config
from mmdysample.engine.files import whole_file
from mmdysample.engine.model import build_model

SHAPES = 'configs/shapes/faster_rcnn_dysample_shapes.py'


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    for name in ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope='module')
def weights():
    return build_model(load_config(SHAPES)).state_dict()


@pytest.fixture
def convert(run_tool):
    """Run the tool; what it prints, or its one line of error."""

    def run(*arguments, config=SHAPES, refused=False):
        told = run_tool('convert_checkpoint', *arguments, '--config', config, refused=refused)
        return told if refused else told.out

    return run


def mmdet_2(weights, **extra):
    """What a runner of mmcv 1 writes."""
    meta = {
        'env_info': 'sys.platform: linux',
        'config': 'model = dict()',
        'seed': 0,
        'exp_name': 'faster_rcnn.py',
        'epoch': 12,
        'iter': np.int64(87960),
        'mmcv_version': '1.5.0',
        'time': 'Thu Feb  9 02:14:07 2023',
        'hook_msgs': {'best_score': np.float64(0.387), 'best_ckpt': 'x.pth'},
        'CLASSES': ('circle', 'square', 'triangle'),
        'PALETTE': [(0, 0, 0), (1, 1, 1), (2, 2, 2)],
    }
    state = {f'module.{name}': value for name, value in weights.items() if not name.endswith('init_pos')}
    optimizer = {'state': {0: {'momentum_buffer': torch.zeros(3)}}, 'param_groups': [{'lr': 0.02, 'params': [0]}]}
    return {'meta': meta, 'state_dict': state, 'optimizer': optimizer, **extra}


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.makedirs, (str(self.path), 0o777, True)


@pytest.mark.parametrize('zipped', [True, False])
def test_a_file_of_mmdet_2(convert, weights, tmp_path, zipped):
    source, out = tmp_path / 'released.pth', tmp_path / 'new/ours.pth'
    torch.save(mmdet_2(weights), source, _use_new_zipfile_serialization=zipped)
    printed = convert(source, out)
    assert printed.endswith(f'checkpoint: {out}\n')
    for words in (
        f'| renamed | module.* | {len(weights) - 4} |',
        '| added | neck.upsample_modules.*.init_pos | 4 |',
        '| dropped | optimizer | 1 |',
        '| dropped | meta: config, env_info, epoch, exp_name, hook_msgs, iter, mmcv_version, seed, time | 9 |',
        '| kept | meta: classes | 1 |',
    ):
        assert words in ' '.join(printed.split())
    content = torch.load(out, weights_only=True)
    assert content['state_dict'].keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in content['state_dict'].items())
    assert content['meta']['dataset_meta']['classes'] == ('circle', 'square', 'triangle')
    assert [path.name for path in out.parent.iterdir()] == ['ours.pth']


def test_bare_weights_keep_their_names(convert, weights, tmp_path):
    torch.save(weights, tmp_path / 'bare.pth')
    printed = convert(tmp_path / 'bare.pth', tmp_path / 'ours.pth')
    assert f'| kept | * | {len(weights)} | under its name |' in ' '.join(printed.split())
    assert 'dropped' not in printed
    build_model(load_config(SHAPES)).load_state_dict(torch.load(tmp_path / 'ours.pth', weights_only=True)['state_dict'])


def test_into_the_stock_model(convert, tmp_path):
    carafe = build_model(load_config(SHAPES, {'model.neck.upsample_cfg.type': 'CARAFE'})).state_dict()
    torch.save({'state_dict': carafe, 'meta': {'dataset_meta': {'classes': ('a', 'b')}}}, tmp_path / 'ours.pth')
    printed = convert(tmp_path / 'ours.pth', tmp_path / 'stock.pth', '--to', 'stock', '--upsampler', 'CARAFE')
    assert "model.neck: FPN_CARAFE, upsample_cfg={'type': 'carafe'}" in printed
    content = torch.load(tmp_path / 'stock.pth', weights_only=True)
    assert content['state_dict'].keys() == carafe.keys()
    assert content['meta']['dataset_meta'] == {'classes': ('a', 'b')}


def test_a_bomb_is_refused(convert, weights, tmp_path):
    trap, source, out = tmp_path / 'trap', tmp_path / 'bomb.pth', tmp_path / 'ours.pth'
    torch.save(mmdet_2(weights, hook=Bomb(trap)), source)
    line = convert(source, out, refused=True)
    assert 'holds more than data: os.makedirs. Loading it could run code' in line
    assert 'add --trust-checkpoint' in line
    assert not trap.exists()
    assert not out.exists()
    convert(source, out, '--trust-checkpoint')
    assert trap.exists()
    assert out.exists()


def test_the_wrong_upsampler(convert, weights, tmp_path):
    torch.save(mmdet_2(weights), tmp_path / 'released.pth')
    line = convert(tmp_path / 'released.pth', tmp_path / 'ours.pth', '--upsampler', 'DySample-S', refused=True)
    assert 'neck.upsample_modules.0.offset.weight is (32, 64, 1, 1) in released.pth and (16, 16, 1, 1) in configs/' in line
    assert line.endswith('the options that fit the file are --upsampler DySample\n')
    assert not (tmp_path / 'ours.pth').exists()


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (None, 'there is no checkpoint'),
        (b'hello', 'is not a complete checkpoint'),
        (b'', 'is not a complete checkpoint'),
        ('cut', 'is not a complete checkpoint'),
        ({'state_dict': {'a': 1}}, 'holds no state_dict of tensors'),
        ({0: torch.zeros(1)}, 'holds no state_dict of tensors'),
        ({'state_dict': {'weight': torch.zeros(1)}}, 'lacks 142 weights'),
    ],
)
def test_what_is_no_checkpoint(convert, weights, tmp_path, content, message):
    source = tmp_path / 'x.pth'
    if isinstance(content, bytes):
        source.write_bytes(content)
    elif content is not None:
        torch.save(mmdet_2(weights) if content == 'cut' else content, source)
    if content == 'cut':
        source.write_bytes(source.read_bytes()[:100_000])
    assert message in convert(source, tmp_path / 'ours.pth', refused=True)
    assert not (tmp_path / 'ours.pth').exists()


def test_where_it_writes(convert, weights, tmp_path):
    source, out, link = tmp_path / 'released.pth', tmp_path / 'ours.pth', tmp_path / 'link.pth'
    torch.save(mmdet_2(weights), source)
    link.symlink_to(source)
    out.write_text('mine')
    assert f'{out} exists: choose another OUT, or overwrite it with --force' in convert(source, out, refused=True)
    assert out.read_text() == 'mine'
    for same in (source, link):
        assert 'IN and OUT are both' in convert(source, same, '--force', refused=True)
    assert 'OUT must be a file, got the folder' in convert(source, tmp_path, '--force', refused=True)
    assert 'there is no checkpoint' in convert(tmp_path, out, '--force', refused=True)
    assert 'download it first' in convert('https://example.org/a.pth', tmp_path / 'b.pth', refused=True)
    assert f'OUT cannot be saved in {out}, which is a file' in convert(source, out / 'new/ours.pth', refused=True)
    assert 'there is no config nowhere.py' in convert(source, out, '--force', config='nowhere.py', refused=True)
    assert out.read_text() == 'mine'
    convert(source, out, '--force')
    assert torch.load(out, weights_only=True)['state_dict'].keys() == weights.keys()


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / 'x'
    path.write_text('old')

    def fill():
        with whole_file(path) as file:
            file.write(b'half')
            raise OSError('disk full')

    with pytest.raises(OSError, match='disk full'):
        fill()
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]
    with whole_file(path) as file:
        file.write(b'new')
        assert path.read_text() == 'old'
    assert path.read_text() == 'new'
