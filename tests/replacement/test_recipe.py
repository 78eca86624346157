"""The recipe of a replaced model, applied without a run, and upsamplers saved and loaded."""

import copy
import json
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from interpolating import Block, dysamples
from torch import nn

from mmdysample import (
    FADE,
    DySample,
    apply_upsample,
    load_upsamplers,
    register_upsampler,
    replace_upsample,
    restore_upsample,
    save_upsamplers,
    upsample_recipe,
)
from mmdysample.upsamplers.registration import UPSAMPLERS, mmengine_registry

IMAGE = torch.randn(2, 3, 16, 32)


class Net(nn.Module):
    """Sites in the model itself, in a child without weights and in a block under two names; and a call that stays."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=8, padding=1)
        self.position = nn.Parameter(torch.randn(1, 8, 2, 2))
        self.up = nn.Upsample(scale_factor=2, mode='bilinear')
        self.block = Block()
        self.again = self.block
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, image):
        x = self.conv(image)
        x = x + F.interpolate(self.position, x.shape[2:])  # channels and mode of the next call
        x = F.interpolate(F.interpolate(x, scale_factor=4), scale_factor=2)
        return self.head(self.again(self.block(self.up(x))))


def replaced(cfg='DySample', **options):
    model = Net()
    report = replace_upsample(model, cfg, IMAGE, **options)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p) * 0.3)
    return model, report.recipe


def stock(model):
    """The model without its upsamplers, as a stock checkpoint would give it."""
    other = Net()
    other.load_state_dict({name: value for name, value in model.state_dict().items() if 'upsample_modules' not in name})
    return other


def test_the_recipe_is_plain_data():
    _, recipe = replaced(dict(type=DySample, groups=np.int64(2)), exclude='up')
    assert json.loads(json.dumps(recipe, sort_keys=True)) == recipe
    config = {'type': 'DySample', 'groups': 2}
    assert recipe == {
        'format': 1,
        'modules': {
            '': [
                {'site': 'Net:0', 'channels': 8, 'mode': 'nearest', 'ratio': 0, 'upsampler': None},
                {'site': 'Net:1', 'channels': 8, 'mode': 'nearest', 'ratio': 4, 'upsampler': config},
                {'site': 'Net:2', 'channels': 8, 'mode': 'nearest', 'ratio': 2, 'upsampler': config},
            ],
            'up': [],
            'block': [{'site': 'block:0', 'channels': 8, 'mode': 'nearest', 'ratio': 2, 'upsampler': config}],
        },
    }


@pytest.mark.parametrize(
    'cfg',
    ['DySample+', 'CARAFE', dict(type='DySample-S', style='pl', groups=2), 'deconv', 'bilinear', dict(type=nn.Upsample, mode='bilinear')],
)
def test_applied_before_the_weights_are_loaded(cfg):
    model, recipe = replaced(cfg)
    other = apply_upsample(Net(), json.loads(json.dumps(recipe)))
    assert upsample_recipe(other) == recipe
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(IMAGE), model(IMAGE))
    assert type(restore_upsample(other)) is Net


def test_applied_in_a_constructor_on_meta():
    model, recipe = replaced('DySample+')

    class Built(Net):
        def __init__(self):
            super().__init__()
            apply_upsample(self, recipe)

    with torch.device('meta'):
        other = Built()
    assert all(p.is_meta for p in other.parameters())
    other.load_state_dict(model.state_dict(), assign=True)
    assert torch.equal(other(IMAGE), model(IMAGE))


def test_dtype_and_mode_come_from_the_model():
    _, recipe = replaced()
    model = Net().bfloat16().eval()
    apply_upsample(model, recipe)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not any(module.training for module in dysamples(model))


def test_each_site_may_have_another_upsampler():
    """Instead of a second replace_upsample with another pattern, which is refused, edit the recipe."""
    report = replace_upsample(Net(), 'DySample', IMAGE)
    recipe = report.recipe
    recipe['modules'][''][2]['upsampler'] = {'type': 'CARAFE'}
    model = apply_upsample(Net(), recipe)
    assert [type(module).__name__ for module in model.upsample_modules] == ['Sequential', 'CARAFE']
    assert isinstance(model.up.upsample_modules[0], DySample)
    assert upsample_recipe(model) == recipe
    assert model(IMAGE).shape == report.model(IMAGE).shape


WRONG = [
    (lambda r: None, 'the recipe is broken: it must be a dict'),
    (lambda r: {**r, 'format': 2}, 'the recipe has format 2, but this version of mmdysample reads up to 1: upgrade mmdysample'),
    (lambda r: {**r, 'modules': []}, "the recipe is broken: 'modules' must be a dict of lists"),
    (lambda r: {**r, 'modules': {'up': []}}, 'the recipe is broken: it has no upsampler'),
    (lambda r: {**r, 'modules': {'neck': r['modules']['up']}}, "the recipe belongs to another model: Net has no module 'neck'"),
    (lambda r: edited(r, upsampler={'type': 'DySimple'}), "cannot be built: unknown upsampler 'DySimple' (did you mean"),
    (lambda r: edited(r, upsampler={'type': 'DySample', 'group': 2}), "DySample takes no argument 'group'"),
    (lambda r: edited(r, upsampler={'groups': 2}), 'the recipe is broken: a call has invalid values'),
    (lambda r: edited(r, ratio='2'), 'the recipe is broken: a call has invalid values'),
    (lambda r: edited(r, mode='area'), 'the recipe is broken: a call has invalid values'),
    (lambda r: edited(r, channels=6), 'in_channels must be divisible by groups'),
    (lambda r: edited(r, order=1), 'the recipe is broken: each call must have channels, mode'),
]


def edited(recipe, **values):
    recipe['modules']['up'][0].update(values)
    return recipe


@pytest.mark.parametrize(('edit', 'message'), WRONG, ids=[message[-40:] for _, message in WRONG])
def test_a_wrong_recipe_is_one_sentence_and_changes_nothing(edit, message):
    _, recipe = replaced()
    model = Net()
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        apply_upsample(model, edit(recipe))
    assert message in str(caught.value)
    assert '\n' not in str(caught.value)
    assert type(model) is Net
    assert model.state_dict().keys() == Net().state_dict().keys()


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        (lambda: replaced()[0], 'already has upsamplers of replace_upsample: undo it first'),
        (lambda: torch.compile(Net()), 'call it before torch.compile and DDP, on the original module'),
        (lambda: nn.ModuleDict({'conv': Net()}), "ModuleDict has no module 'up' (1 more are missing)"),
        (lambda: nn.ModuleDict({'up': nn.Sequential(nn.Conv2d(3, 8, 1)), 'block': Block()}), 'ModuleDict, which cannot own'),
        (lambda: 'Net', "apply_upsample needs an nn.Module, got 'Net'"),
    ],
    ids=['replaced', 'compiled', 'another', 'container', 'text'],
)
def test_a_wrong_model_is_one_sentence(model, message):
    _, recipe = replaced()
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        apply_upsample(model(), recipe)
    assert message in str(caught.value)
    assert '\n' not in str(caught.value)


class Doubled(nn.Upsample):
    guided = False

    def __init__(self, scale_factor, factors=(1,)):
        super().__init__(scale_factor=scale_factor)


def test_a_class_of_your_own_is_stored_by_its_registered_name(monkeypatch):
    registry = mmengine_registry()
    for known in (UPSAMPLERS, *([] if registry is None else [registry.module_dict])):
        monkeypatch.setitem(known, 'Doubled of mine', Doubled)  # and gone after the test
        del known['Doubled of mine']
    report = replace_upsample(Net(), Doubled, IMAGE)
    with pytest.raises(ValueError, match='Doubled, cannot be stored, because it is not registered: decorate the class with @mmdysample'):
        _ = report.recipe
    report.undo()
    register_upsampler('Doubled of mine')(Doubled)
    recipe = replace_upsample(report.model, dict(type=Doubled, factors=(1, 2)), IMAGE).recipe
    assert recipe['modules']['up'][0]['upsampler'] == {'type': 'Doubled of mine', 'factors': [1, 2]}
    report.undo()
    report = replace_upsample(report.model, dict(type=Doubled, factors=torch.ones(1)), IMAGE)
    with pytest.raises(ValueError, match=r'tensor\(\[1\.\]\) in its config is not plain data'):
        _ = report.recipe


def test_a_model_without_upsamplers_has_no_recipe():
    model = Net()
    report = replace_upsample(model, 'DySample', IMAGE)
    report.model.up.upsample_modules[0] = DySample(8)
    with pytest.raises(ValueError, match='the upsampler of up was not built by replace_upsample'):
        _ = report.recipe
    report.undo()
    with pytest.raises(ValueError, match='Net has no upsamplers of replace_upsample, so it has no recipe'):
        _ = report.recipe


class Hub(Net):
    """Looks like a model of transformers, see tests/test_transformers.py."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(save_pretrained=None)

    def save_pretrained(self):
        pass


def test_a_config_that_is_saved_has_the_recipe():
    model = Hub()
    report = replace_upsample(model, 'DySample', IMAGE)
    assert model.config.mmdysample == report.recipe
    assert apply_upsample(nn.DataParallel(Hub()), report.recipe).module.config.mmdysample == report.recipe
    restore_upsample(nn.DataParallel(model))
    assert not hasattr(model.config, 'mmdysample')
    model.config.mmdysample = replaced()[1]
    with pytest.warns(UserWarning, match='Hub has no upsamplers, but its config has a recipe of some'):
        replace_upsample(model, 'DySample', IMAGE)


WRAPPED = {
    'copy': copy.deepcopy,
    'pickle': lambda model: pickle.loads(pickle.dumps(model)),
    'DataParallel': nn.DataParallel,
    'compile': torch.compile,
    'compiled in DataParallel': lambda model: nn.DataParallel(torch.compile(model)),
}


@pytest.mark.parametrize('kind', WRAPPED)
def test_copies_and_wrapped_models_have_the_same_recipe(kind, tmp_path):
    model, recipe = replaced()
    other = WRAPPED[kind](model)
    assert upsample_recipe(other) == recipe
    save_upsamplers(other, tmp_path / 'a.safetensors')
    assert torch.equal(load_upsamplers(stock(model), tmp_path / 'a.safetensors')(IMAGE), model(IMAGE))
    load_upsamplers(other, tmp_path / 'a.safetensors')
    parallel = nn.DataParallel(Net())
    apply_upsample(parallel, recipe).load_state_dict(nn.DataParallel(model).state_dict())
    assert torch.equal(parallel.module(IMAGE), model(IMAGE))


class Adapted(nn.Module):
    """A model inside another one, as PEFT wraps it."""

    def __init__(self, model):
        super().__init__()
        self.base_model = model

    def forward(self, x):
        return self.base_model(x)


def test_inside_another_model_the_names_are_longer(tmp_path):
    model, _ = replaced()
    outer = Adapted(model)
    save_upsamplers(outer, tmp_path / 'a.safetensors')
    assert torch.equal(load_upsamplers(Adapted(stock(model)), tmp_path / 'a.safetensors')(IMAGE), model(IMAGE))
    with pytest.raises(ValueError, match="belongs to another model: Net has no module 'base_model'"):
        load_upsamplers(stock(model), tmp_path / 'a.safetensors')


def test_recipe_and_weights_in_one_checkpoint(tmp_path):
    model, recipe = replaced()
    torch.save({'recipe': recipe, 'model': model.state_dict()}, tmp_path / 'both.pth')
    both = torch.load(tmp_path / 'both.pth', weights_only=True)
    other = apply_upsample(Net(), both['recipe'])
    other.load_state_dict(both['model'])
    assert torch.equal(other(IMAGE), model(IMAGE))


@pytest.fixture
def saved(tmp_path):
    """A replaced model and the file of its upsamplers."""
    model, _ = replaced('DySample+')
    save_upsamplers(model, tmp_path / 'up.safetensors')
    return model, tmp_path / 'up.safetensors'


def test_loaded_into_a_replaced_model_in_place(saved):
    model, file = saved
    other = stock(model)
    replace_upsample(other, 'DySample+', IMAGE)
    known = {name: p for name, p in other.named_parameters() if 'upsample_modules' in name}
    assert load_upsamplers(other, file) is other
    assert torch.equal(other(IMAGE), model(IMAGE))
    assert all(p is known[name] for name, p in other.named_parameters() if name in known)  # those of an optimizer


@pytest.mark.parametrize('before', [True, False])
def test_loaded_onto_meta(saved, before):
    model, file = saved
    with torch.device('meta'):
        other = Net().eval()
    if before:
        apply_upsample(other, upsample_recipe(model))
        for upsampler in dysamples(other):
            upsampler.requires_grad_(False)
    load_upsamplers(other, file)
    upsamplers = dysamples(other)
    assert not any(t.is_meta for module in upsamplers for t in (*module.parameters(), *module.buffers()))
    assert all(p.requires_grad is not before for module in upsamplers for p in module.parameters())
    assert other.conv.weight.is_meta
    other.load_state_dict(model.state_dict(), assign=True)
    assert torch.equal(other(IMAGE), model(IMAGE))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
def test_the_dtype_of_the_model_is_kept(saved, dtype):
    model, file = saved
    other = load_upsamplers(stock(model).to(dtype), file)
    assert {p.dtype for p in other.parameters()} == {dtype}
    for ours, theirs in zip(other.parameters(), copy.deepcopy(model).to(dtype).parameters()):
        assert torch.equal(ours, theirs)


def test_upsamplers_that_share_weights(tmp_path):
    model, _ = replaced()
    model.block.upsample_modules = model.up.upsample_modules
    save_upsamplers(model, tmp_path / 'a.safetensors')
    assert torch.equal(load_upsamplers(stock(model), tmp_path / 'a.safetensors')(IMAGE), model(IMAGE))


def rewritten(file, edit):
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(file, 'pt') as opened:
        metadata, weights = opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    edit(metadata, weights)
    save_file(weights, file, metadata)


BIAS = 'up.upsample_modules.0.offset.bias'
DAMAGE = {
    'missing': (lambda m, w: w.pop(BIAS), 'does not fit the upsampler of up: .*Missing key.*offset.bias'),
    'left over': (lambda m, w: w.update(other=torch.ones(1)), 'has weights that belong to no upsampler of its recipe: other'),
    'left over in it': (lambda m, w: w.update({f'{BIAS}2': torch.ones(1)}), 'does not fit the upsampler of up: .*Unexpected key.*bias2'),
    'shape': (lambda m, w: w.update({BIAS: torch.ones(1)}), 'does not fit the upsampler of up: .*size mismatch'),
    'no recipe': (lambda m, w: m.clear(), 'has no recipe, so save_upsamplers did not write it'),
    'no JSON': (lambda m, w: m.update(mmdysample='{'), 'the recipe is broken: it is not JSON'),
}


@pytest.mark.parametrize('state', ['replaced', 'stock'])
@pytest.mark.parametrize('damage', DAMAGE)
def test_a_file_that_does_not_fit_changes_nothing(saved, damage, state):
    _, file = saved
    edit, message = DAMAGE[damage]
    rewritten(file, edit)
    other = Net() if state == 'stock' else replaced('DySample+')[0]
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match=message) as caught:
        load_upsamplers(other, file)
    assert '\n' not in str(caught.value)
    after = other.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_model_replaced_otherwise_is_refused(saved):
    _, file = saved
    other, _ = replaced('CARAFE')
    with pytest.raises(ValueError, match=r"at site Net:1, the file has {'type': 'DySample\+', .*the model {'type': 'CARAFE'.*restore_ups"):
        load_upsamplers(other, file)
    other, _ = replaced('DySample+', exclude='up')
    with pytest.raises(ValueError, match='at site up, the file has .* and the model no upsampler'):
        load_upsamplers(other, file)


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no file'):
        load_upsamplers(Net(), tmp_path / 'a.safetensors')
    (tmp_path / 'a.safetensors').write_text('weights')
    with pytest.raises(ValueError, match='cannot read .* as a safetensors file'):
        load_upsamplers(Net(), tmp_path / 'a.safetensors')


def test_what_cannot_be_saved_leaves_the_folder_as_it_was(saved, monkeypatch):
    model, file = saved
    content = file.read_bytes()
    with pytest.raises(ValueError, match='does not overwrite .*up.safetensors: delete it first'):
        save_upsamplers(model, file)
    with pytest.raises(ValueError, match='Net has no upsamplers of replace_upsample'):
        save_upsamplers(stock(model), file.with_name('b'))
    with pytest.raises(ValueError, match=r'cannot store upsample_modules.0.0.\w+, which is not a tensor with values'):
        save_upsamplers(model.to('meta'), file.with_name('b'))
    with pytest.raises(FileNotFoundError):
        save_upsamplers(replaced()[0], file.parent / 'none/b')
    monkeypatch.setattr('pathlib.Path.replace', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_upsamplers(replaced()[0], file.with_name('b'))
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert file.read_bytes() == content


def test_without_safetensors(monkeypatch, tmp_path):
    model, _ = replaced()
    monkeypatch.setattr('mmdysample.frameworks.find_spec', lambda name: None)
    for function, user in ((save_upsamplers, 'save_upsamplers'), (load_upsamplers, 'load_upsamplers')):
        with pytest.raises(ImportError, match=f'^{user} needs safetensors, which is not installed. Run: pip install safetensors$'):
            function(model, tmp_path / 'a')


def test_guided_upsamplers_are_refused_when_the_recipe_was_edited():
    _, recipe = replaced()
    assert FADE.guided
    with pytest.raises(ValueError, match='the upsampler of up in the recipe .* guided'):
        apply_upsample(Net(), edited(recipe, upsampler={'type': 'FADE'}))


@pytest.mark.slow
def test_a_pickled_model_where_mmdysample_is_absent(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Upsample(scale_factor=2), nn.Conv2d(8, 4, 1))
    replace_upsample(model, 'DySample', IMAGE)
    torch.save(model, tmp_path / 'model.pth')
    code = f"import sys; sys.modules['mmdysample'] = None\nimport torch; torch.load({str(tmp_path / 'model.pth')!r}, weights_only=False)"
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert 'ModuleNotFoundError' in done.stderr
    assert 'mmdysample' in done.stderr.splitlines()[-1]
