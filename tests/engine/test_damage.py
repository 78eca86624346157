"""Damaged files of weights: wherever one is loaded, it is refused in one line."""

import io
import os
import random
import re
import shutil
import zipfile

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.runner import checkpoint as loaders
from mmengine.runner import load_checkpoint
from torch import nn

from mmdysample import DUpsample
from mmdysample.engine.checkpoint import check_checkpoint, latest_complete, load_content, read_checkpoint, secure_loading
from mmdysample.engine.damage import verify_checksums
from mmdysample.engine.pretrained import check_pretrained, checked_loading


@pytest.fixture(autouse=True)
def _secure(monkeypatch):
    monkeypatch.setattr(torch, 'load', torch.load)
    secure_loading()


@pytest.fixture(scope='module')
def trained():
    """A checkpoint of 1 MB, as bytes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 96, 3), nn.BatchNorm2d(96), nn.Conv2d(96, 96, 3))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.rand(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    meta = dict(epoch=1, iter=10, cfg='model = dict()', dataset_meta=dict(classes=('circle',)))
    return written(dict(state_dict=model.state_dict(), optimizer=optimizer.state_dict(), message_hub={}, meta=meta))


def written(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def members(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [archive.read(name) for name in archive.namelist()]


def flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def in_a_weight(data):
    """The same file with another bit in the middle of its largest part."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        largest = max((archive.read(name) for name in archive.namelist()), key=len)
    return flipped(data, 8 * (data.index(largest) + len(largest) // 2))


@pytest.fixture
def damaged(tmp_path):
    path = tmp_path / 'w.pth'
    path.write_bytes(in_a_weight(written(dict(weight=torch.rand(30, 2), bias=torch.rand(30)))))
    return path


def refusal(path, **options):
    with pytest.raises(ValueError, match=str(path)) as error:
        check_checkpoint(path, **options)
    assert '\n' not in str(error.value)
    return str(error.value)


def is_taken(path):
    try:
        check_checkpoint(path)
    except ValueError as error:
        return not re.fullmatch(rf'{path} (is damaged \(.+\)|is not a complete checkpoint): .*copy or download it again', str(error))
    return True


def test_no_changed_bit_changes_a_weight(tmp_path, trained):
    original = members(written(torch.load(io.BytesIO(trained))))
    unnoticed = 0
    for bit in random.Random(0).sample(range(8 * len(trained)), 200):
        path = tmp_path / f'{bit}.pth'
        path.write_bytes(flipped(trained, bit))
        if is_taken(path):
            unnoticed += 1  # in the padding between the weights, or in a time
            assert members(written(read_checkpoint(path))) == original
            assert members(written(read_checkpoint(path, mapped=True))) == original
        path.unlink()
    assert unnoticed <= 4


def test_no_changed_bit_of_the_list_of_contents_changes_a_weight(tmp_path):
    """It is the part of a file that has no checksum. In it, a bit marks a part as a folder, which torch then reads as nothing."""
    data = written(dict(weight=torch.rand(3)))
    original = members(data)
    start = data.index(b'PK\1\2')
    folders = [8 * (start + match.start() + 38) + 4 for match in re.finditer(b'PK\1\2', data[start:])]
    for bit in [*folders, *random.Random(0).sample(range(8 * start, 8 * len(data)), 400)]:
        path = tmp_path / f'{bit}.pth'
        path.write_bytes(flipped(data, bit))
        if is_taken(path):
            assert members(written(read_checkpoint(path))) == original


def test_no_part_of_a_file_is_loaded(tmp_path, trained):
    for i, size in enumerate(random.Random(0).sample(range(len(trained)), 20)):
        (tmp_path / f'{i}.pth').write_bytes(trained[:size])
        assert 'is not a complete checkpoint' in refusal(tmp_path / f'{i}.pth')


def test_the_line_names_the_part_and_the_remedy(tmp_path, trained, damaged, capsys):
    assert refusal(damaged).endswith('w.pth is damaged (archive/data/0): copy or download it again')
    for i, data in ((1, trained), (2, in_a_weight(trained)), (3, trained[:9999])):
        (tmp_path / f'epoch_{i}.pth').write_bytes(data)
    newest = tmp_path / 'epoch_2.pth'
    told = r'/epoch_2\.pth is damaged \(archive/data/\d+\): copy it again, or use an older checkpoint$'
    assert re.search(told, refusal(newest, to_resume=True))
    assert latest_complete(tmp_path) == tmp_path / 'epoch_1.pth'
    assert f'skipped: {newest} is damaged' in capsys.readouterr().out


class Backbone(BaseModule):
    def __init__(self, init_cfg):
        super().__init__(init_cfg)
        self.weight, self.bias = nn.Parameter(torch.zeros(30, 2)), nn.Parameter(torch.zeros(30))


ADDRESSES = ('https://example.org/sub/w.pth', 'torchvision://resnet50', 'open-mmlab://resnet50')


@pytest.fixture
def cached(damaged, monkeypatch, tmp_path):
    """The damaged file, as a download in the cache."""
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    for models in ('get_torchvision_models', 'get_external_models'):
        monkeypatch.setattr(loaders, models, lambda: dict(resnet50=ADDRESSES[0]))
    path = tmp_path / 'hub/checkpoints/w.pth'
    path.parent.mkdir(parents=True)
    return shutil.copy(damaged, path)


@pytest.mark.parametrize('address', ADDRESSES)
def test_downloads(cached, address):
    told = rf'{cached} is damaged \(archive/data/0\): delete it, and it is downloaded again$'
    with pytest.raises(ValueError, match=told):
        load_content(address)
    model = Backbone([dict(type='Constant', val=0), dict(type='Pretrained', checkpoint=address)])
    with pytest.raises(ValueError, match=told), checked_loading(model):
        model.init_weights()
    with pytest.raises(ValueError, match=told):  # as a teacher's weights are loaded when a model is built
        load_checkpoint(model, address)
    assert not model.weight.any()


@pytest.mark.parametrize('content', [b'<html>', written(dict(weight=torch.rand(30, 2)))[:900]])
def test_downloads_that_went_wrong(cached, content):
    cached.write_bytes(content)
    with pytest.raises(ValueError, match=rf'{cached} is not a complete checkpoint: .*; delete it, and it is downloaded again$'):
        load_content(ADDRESSES[0])


def test_weights_that_a_config_names(damaged):
    path = str(damaged)
    for model in (dict(pretrained=path), dict(teacher_ckpt=path), dict(neck=[dict(init_cfg=[dict(type='Pretrained', checkpoint=path)])])):
        with pytest.raises(ValueError, match=r'^model\.\S+: .*w\.pth is damaged \(archive/data/0\): copy or download it again$'):
            check_pretrained(Config(dict(model=model)))


def test_the_matrix_of_dupsample(tmp_path):
    path = tmp_path / 'w.pth'
    path.write_bytes(in_a_weight(written(dict(W=torch.rand(32, 8)))))
    with pytest.raises(ValueError, match=r'w\.pth is damaged \(archive/data/0\): copy it again, or make it again with tools/fit'):
        DUpsample(8, 2, matrix=str(path)).init_weights()


def test_a_file_is_read_once(tmp_path, trained, monkeypatch):
    opened, stock = [], zipfile.ZipFile.open
    monkeypatch.setattr(zipfile.ZipFile, 'open', lambda *args: opened.append(args) or stock(*args))
    path = tmp_path / 'epoch_1.pth'
    path.write_bytes(trained)
    check_checkpoint(path)
    number = len(opened)
    assert number
    monkeypatch.chdir(tmp_path)
    load_content('epoch_1.pth')
    torch.load(path)
    assert len(opened) == number
    path.write_bytes(in_a_weight(trained))
    os.utime(path, (1, 1))
    assert 'is damaged' in refusal(path)


@pytest.mark.parametrize('rank', ['0', '1'])
def test_files_without_checksums(tmp_path, capsys, monkeypatch, rank):
    monkeypatch.setenv('RANK', rank)
    content = dict(weight=torch.ones(3))
    torch.save(content, tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    computed = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    torch.save(content, tmp_path / 'without.pth')
    torch.serialization.set_crc32_options(computed)
    for name, told in (('old', "is in torch's old format, which has"), ('without', 'was saved with')):
        path = tmp_path / f'{name}.pth'
        assert not verify_checksums(path)
        check_checkpoint(path)
        assert load_content(str(path))['weight'].equal(torch.ones(3))
        line = f'note: {path} {told} no checksums, so damage to its weights cannot be noticed\n'
        assert capsys.readouterr().out == (line if rank == '0' else '')
    torch.save(content, tmp_path / 'new.pth')
    assert verify_checksums(tmp_path / 'new.pth')
    check_checkpoint(tmp_path / 'new.pth')
    assert capsys.readouterr().out == ''
