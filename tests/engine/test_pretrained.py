"""The weights that ``init_cfg`` names: safe and whole before they are loaded, and enough of them when they are."""

import argparse
import json

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModule, ModuleList
from mmengine.runner.checkpoint import load_checkpoint, load_state_dict
from torch import nn

from mmdysample import DySample
from mmdysample.engine.checkpoint import secure_loading
from mmdysample.engine.pretrained import check_pretrained, checked_loading, pretrained_weights


@pytest.fixture(autouse=True)
def _secure(monkeypatch):
    monkeypatch.setattr(torch, 'load', torch.load)
    secure_loading()


class Backbone(BaseModule):
    """Six layers, and what no file of a classifier holds: a norm of the output, an upsampler."""

    def __init__(self, init_cfg=None):
        super().__init__(init_cfg)
        self.layers = ModuleList([nn.Conv2d(3, 3, 1) for _ in range(6)])
        self.norm0 = nn.LayerNorm(3)
        self.upsampler = DySample(16)


class Strict(Backbone):
    """Loads its weights itself, as mmdet's Swin does: also from under 'model', and strictly as to their shapes."""

    def init_weights(self):
        content = torch.load(self.init_cfg['checkpoint'])
        self.load_state_dict({name.removeprefix('old.'): value for name, value in content.get('model', content).items()}, strict=False)


class Taught(Backbone):
    """Loads the weights of its teacher when it is built, as mmdet's distillation does."""

    def __init__(self, teacher_ckpt):
        super().__init__()
        load_checkpoint(self, teacher_ckpt, map_location='cpu')


class Detector(BaseModule):
    def __init__(self, backbone, init_cfg=None):
        super().__init__(init_cfg)
        self.backbone = backbone
        self.head = nn.Linear(2, 2)


def weights(prefix='', layers=6, **shapes):
    state = {
        f'layers.{i}.{name}': torch.ones(3, 3, 1, 1) if name == 'weight' else torch.ones(3)
        for i in range(layers)
        for name in ('weight', 'bias')
    }
    return {f'{prefix}{name}': value for name, value in {**state, **shapes}.items()}


@pytest.fixture
def file(tmp_path):
    def save(content, **options):
        torch.save(content, tmp_path / 'w.pth', **options)
        return str(tmp_path / 'w.pth')

    return save


def load(path, kind=Backbone, **init):
    model = Detector(kind(init_cfg=dict(type='Pretrained', checkpoint=path, **init)))
    with checked_loading(model):
        model.init_weights()
    assert not any(module._load_state_dict_pre_hooks for module in model.modules() if not isinstance(module, DySample))
    return model.backbone


@pytest.mark.parametrize(
    ('content', 'init'),
    [
        (weights(), {}),
        (dict(state_dict=weights('module.')), {}),
        (dict(state_dict=weights('backbone.')), dict(prefix='backbone.')),
        (dict(state_dict=weights('net.body.')), dict(prefix='net.body')),
        (dict(state_dict={**weights(), 'fc.weight': torch.ones(9, 9)}, meta={}), {}),
    ],
)
def test_what_fits_is_loaded_without_a_word(file, capsys, content, init):
    backbone = load(file(content), **init)
    assert all((layer.weight == 1).all() for layer in backbone.layers)
    assert 'warning' not in capsys.readouterr().out


@pytest.mark.parametrize(
    ('content', 'init', 'told'),
    [
        (weights('backbone.'), {}, r': its names begin with backbone\.; add --cfg-options model\.backbone\.init_cfg\.prefix=backbone\.$'),
        (weights('net.body.'), {}, r'.*prefix=net\.body\.$'),
        (
            dict(model=weights()),
            {},
            r""": its weights are under 'model', where mmengine does not look; .*\['model'\], 'weights\.pth'\)"$""",
        ),
        (dict(teacher=weights(), student=weights(), epoch=1), {}, ".* under 'teacher'"),
        ({f'blocks.{name}': value for name, value in weights().items()}, dict(prefix='blocks.layers.'), ': its names are others'),
        (nn.LSTM(2, 2).state_dict(), {}, r': its names are others, such as weight_ih_l0 where the model has layers\.0\.weight'),
        (
            {name: torch.ones(5, 5) for name in weights()},
            {},
            r': layers\.0\.weight is \(5, 5\) in the file and \(3, 3, 1, 1\) in the model',
        ),
    ],
)
def test_none_of_it_fits(file, content, init, told):
    with pytest.raises(ValueError, match=rf'w\.pth holds 0 of the 14 weights of model\.backbone \(Backbone\){told}'):
        load(file(content), **init)


def test_some_of_it_fits(file, capsys):
    with pytest.raises(ValueError, match=r'holds 4 of the 14 weights of model\.backbone .*: it lacks layers\.2\.weight, .* \(10\)'):
        load(file(weights(layers=2)))
    load(file(weights(layers=4)))
    told = 'holds 8 of the 14 weights of model.backbone (Backbone); the others keep their initial values: layers.4.weight, layers.4.bias'
    assert f'w.pth {told}' in capsys.readouterr().out


def test_a_prefix_that_the_file_does_not_have(file):
    with pytest.raises(ValueError, match=r'w\.pth holds no weights whose names begin with student\.$'):
        load(file(weights('backbone.')), prefix='student')


def test_modules_that_load_the_weights_themselves(file, capsys):
    backbone = load(file(dict(model=weights('old.'))), Strict)
    assert all((layer.weight == 1).all() for layer in backbone.layers)
    assert 'warning' not in capsys.readouterr().out
    with pytest.raises(ValueError, match=r'w\.pth holds 0 of the 14 weights of model\.backbone \(Strict\)'):
        load(file(dict(state_dict=weights())), Strict)
    with pytest.raises(ValueError, match=r'w\.pth does not fit: Error.* size mismatch for layers\.0\.weight'):
        load(file(weights(**{'layers.0.weight': torch.ones(9, 9)})), Strict)


@pytest.mark.parametrize('options', [{}, dict(pickle_protocol=4), dict(pickle_protocol=5, _use_new_zipfile_serialization=False)])
def test_a_download_that_is_refused(file, options):
    """It is not checked before."""
    path = file(dict(state_dict=weights(), args=argparse.Namespace()), **options)
    told = r'w\.pth holds more than data: argparse\.Namespace\. .* add --trust-checkpoint$'
    for init_weights in (lambda: load(path), lambda: load(path, prefix='layers'), lambda: load(path, Strict), lambda: Taught(path)):
        with pytest.raises(ValueError, match=told):
            init_weights()


def test_weights_of_the_whole_model(file):
    path = file(dict(state_dict=weights('backbone.')))
    model = Detector(Backbone(), init_cfg=[dict(type='Xavier', layer='Linear'), dict(type='Pretrained', checkpoint=path)])
    with checked_loading(model):
        model.init_weights()
    assert (model.backbone.layers[5].weight == 1).all()
    model = Detector(Backbone(), init_cfg=[dict(type='Xavier', layer='Linear'), dict(type='Pretrained', checkpoint=file(weights()))])
    with pytest.raises(ValueError, match=r'holds 0 of the 16 weights of model \(Detector\)'), checked_loading(model):
        model.init_weights()


def test_only_its_own_loading_is_watched(file):
    model = Detector(Backbone(init_cfg=dict(type='Pretrained', checkpoint=file(weights()))))
    with checked_loading(model):
        load_state_dict(model, {'head.weight': torch.ones(2, 2)})
        model.init_weights()
        load_state_dict(model, {'head.weight': torch.ones(2, 2)})
    load_state_dict(model.backbone, {})


def config(**model):
    return Config(dict(model=dict(backbone=dict(type='ResNet'), neck=[dict(type='FPN')], **model)))


def test_files_are_found_wherever_a_config_names_them():
    model = dict(
        backbone=dict(init_cfg=[dict(type='Constant'), dict(type='Pretrained', checkpoint='a.pth', prefix='backbone.')]),
        teacher=dict(pretrained='torchvision://resnet18', init_cfg=dict(type='mmengine.Pretrained', checkpoint='b.pth')),
        neck=[dict(init_cfg=dict(type='Xavier', checkpoint='no file'))],
        teacher_ckpt='c.pth',
        pretrained=None,
    )
    assert [tuple(found) for found in pretrained_weights(model, 'model')] == [
        ('model.teacher_ckpt', 'c.pth', None),
        ('model.backbone.init_cfg.1', 'a.pth', 'backbone.'),
        ('model.teacher.pretrained', 'torchvision://resnet18', None),
        ('model.teacher.init_cfg', 'b.pth', None),
    ]


@pytest.mark.parametrize(
    ('content', 'init', 'told'),
    [
        (
            dict(state_dict=weights(), args=argparse.Namespace()),
            {},
            r'holds more than data: argparse\.Namespace\. .* add --trust-checkpoint$',
        ),
        (b'<html>', {}, 'is not a complete checkpoint: it is a web page'),
        (None, {}, r'there is no checkpoint .*; train without it with --cfg-options model\.neck\.0\.init_cfg=None$'),
        (dict(epoch=3), {}, 'holds no weights'),
        (weights(), dict(prefix='backbone.'), r'no weights whose names begin with backbone\.; they begin with layers\.$'),
        (dict(model=weights('backbone.')), dict(prefix='backbone.'), r"begin with backbone\.; its weights are under 'model'"),
    ],
)
@pytest.mark.parametrize('zipped', [True, False])
def test_files_are_checked_before_they_are_loaded(file, tmp_path, content, init, told, zipped):
    path = tmp_path / 'w.pth'
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        file(content, _use_new_zipfile_serialization=zipped)
    cfg = config()
    cfg.model.neck[0].init_cfg = dict(type='Pretrained', checkpoint=str(path), **init)
    with pytest.raises(ValueError, match=rf'^model\.neck\.0\.init_cfg: .*{told}'):
        check_pretrained(cfg)


def test_files_that_pass(file, monkeypatch, tmp_path):
    for content in (weights(), dict(state_dict=weights()), dict(model=weights(), args=dict(lr=1))):
        check_pretrained(config(init_cfg=dict(type='Pretrained', checkpoint=file(content))))
    monkeypatch.setenv('HOME', str(tmp_path))
    check_pretrained(config(pretrained='~/w.pth'))
    check_pretrained(config(pretrained='open-mmlab://resnet50_v1c'))
    secure_loading(trust=True)
    check_pretrained(config(pretrained=file(dict(state_dict=weights(), args=argparse.Namespace()))))
    check_pretrained(Config(json.loads('{}')))


def test_weights_that_a_tool_writes_are_named_with_it(tmp_path):
    path = tmp_path / 'mobilenet_v2.pth'
    config = Config(dict(model=dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=str(path))))))
    with pytest.raises(ValueError, match=f'python tools/pretrained.py mobilenet_v2 --out {path} writes it; train without it with'):
        check_pretrained(config)
