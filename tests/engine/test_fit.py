"""How many of a model's weights a file holds, and which way of starting, testing or resuming that allows."""

import argparse
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import torch
from torch import nn

from mmdysample import DySamplePlus
from mmdysample.engine.checkpoint import secure_loading
from mmdysample.engine.fit import check_to_resume, check_to_start, check_to_test, fitting_prefix, shapes_of
from mmdysample.upsamplers.builder import build_upsampler


@pytest.fixture(autouse=True)
def _secure():
    secure_loading()


class Neck(nn.Module):
    """A lateral and, like the necks of this package, upsamplers of one kind."""

    def __init__(self, upsampler=None):
        super().__init__()
        self.out_channels = 16
        self.lateral = nn.Conv2d(16, 16, 1)
        self.upsample_modules = nn.ModuleList([build_upsampler(upsampler, 16)] if upsampler else [])


def model(upsampler=None):
    backbone = nn.Sequential(nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16)))
    return nn.ModuleDict({'backbone': backbone, 'neck': Neck(upsampler), 'head': nn.Linear(16, 4)})


@pytest.fixture
def saved(tmp_path):
    """Save weights, or a choice of a model's, and return the path."""

    def save(state, **changes):
        state = dict(state.state_dict() if isinstance(state, nn.Module) else state)
        path = tmp_path / 'x.pth'
        torch.save({'state_dict': {**state, **changes}}, path)
        return str(path)

    return save


def without(module, *starts):
    return {name: value for name, value in module.state_dict().items() if not name.startswith(starts)}


def test_its_own(saved):
    own = model('DySample')
    for check in (check_to_resume, check_to_test, check_to_start):
        assert check(saved(own), own) is None
        assert check(saved({f'module.{name}': value for name, value in own.state_dict().items()}), own) is None


@pytest.mark.parametrize(
    ('change', 'told'),
    [
        ({'head.bias': torch.zeros(5)}, r"it holds 13 of the model's 14 weights and lacks head\.bias; use the config that was saved"),
        (
            'backbone.',
            r"it holds 7 of the model's 13 weights and lacks backbone\.0\.0\.weight, .*backbone\.0\.1\.running_mean, .* \(6\)",
        ),
        ('backbone.0.1.running_var', r'.* lacks backbone\.0\.1\.running_var'),
    ],
)
def test_what_is_missing_would_be_random_in_a_test(saved, change, told):
    own = model('DySample')
    path = saved(without(own, change)) if isinstance(change, str) else saved(own, **change)
    with pytest.raises(ValueError, match=rf'x\.pth is not a checkpoint of this model: {told}'):
        check_to_test(path, own)


@pytest.mark.parametrize(
    ('theirs', 'ours', 'options'),
    [
        ('DySample', None, '--upsampler DySample$'),
        ('CARAFE', 'DySample', '--upsampler CARAFE$'),
        ('DySample+', 'DySample', r'--upsampler DySample\+$'),
        (dict(type='DySample', groups=2), 'DySample', '--upsampler "dict'),
        (None, 'DySample', r'--upsampler nearest \(or bilinear'),
    ],
)
def test_another_upsampler_is_named(saved, theirs, ours, options):
    path = saved(model(theirs))
    for check in (check_to_test, check_to_resume):
        with pytest.raises(ValueError, match=f'the options that fit the file are {options}'):
            check(path, model(ours))


def test_upsamplers_for_which_there_is_no_place(saved):
    """The stock neck has no list of upsamplers."""
    stock = model()
    del stock.neck.upsample_modules
    with pytest.raises(ValueError, match='and the model has no place for neck.upsample_modules.0.*; use the config that was'):
        check_to_test(saved(model('DySample')), stock)


def test_what_a_test_does_without(saved):
    """Counters of batches, heads that only train, positions that are not learnt; and weights that nothing asks for."""
    own = model('DySample')
    own['auxiliary_head'] = nn.Linear(2, 2)
    lacking = ('auxiliary_head', 'backbone.0.1.num_batches_tracked', 'neck.upsample_modules.0.init_pos')
    warning = check_to_test(saved(without(own, *lacking), **{'teacher.weight': torch.zeros(1)}), own)
    assert "it holds 12 of the model's 14 weights and lacks auxiliary_head.weight, auxiliary_head.bias;" in warning
    assert '1 of its weights are not in the model: teacher.weight; use the config that was saved' in warning


def test_resuming_needs_exactly_its_own(saved):
    own = model()
    with pytest.raises(ValueError, match=r'belongs to another model \(they differ in head\.bias\).* choose another --work-dir'):
        check_to_resume(saved(without(own, 'head.bias')), own)
    with pytest.raises(ValueError, match=r'belongs to another model \(they differ in extra\)'):
        check_to_resume(saved(own, extra=torch.zeros(1)), own)


def test_a_training_that_began_with_an_older_file_resumes(saved):
    """Its checkpoints carry the bias of the scope that it was given, and that of a new model is zero."""
    state = DySamplePlus(16).state_dict()
    own = DySamplePlus(16)
    assert check_to_resume(saved(state, **{'scope.bias': torch.ones(32)}), own) is None
    assert not own.scope_bias.any()  # the check leaves the model alone
    del state['init_pos']
    assert check_to_resume(saved(state), own) is None


def test_fine_tuning(saved):
    """The head of other classes starts from initial values; an additional upsampler does, too."""
    own = model('DySample')
    warning = check_to_start(saved(model(), **{'head.weight': torch.zeros(9, 16), 'head.bias': torch.zeros(9)}), own)
    assert warning.startswith('warning: load_from=')
    assert "it holds 9 of the model's 14 weights; the others keep their initial values: neck.upsample_modules.0" in warning
    assert 'head.weight' in warning


BACKBONE = (
    r'model\.backbone\.init_cfg\._delete_=True model\.backbone\.init_cfg\.type=Pretrained model\.backbone\.init_cfg\.checkpoint=\S+x\.pth'
)


@pytest.mark.parametrize(
    ('weights', 'told'),
    [
        (nn.LSTM(3, 4).state_dict(), r'its weights have names such as weight_ih_l0, and the model lacks backbone\.0\.0\.weight'),
        (
            {f'network.{name}': value for name, value in model().state_dict().items()},
            r"its names begin with network\., and those of the model do not; rename them: python -c .*removeprefix\('network\.'\)",
        ),
        (model().backbone.state_dict(), rf'its weights are those of model\.backbone: start from them with --cfg-options {BACKBONE}$'),
        (without(model(), 'neck', 'head'), rf'it fits model\.backbone: start from that with .* {BACKBONE} \S+\.prefix=backbone\.$'),
        ({name: torch.zeros(7) for name in model().state_dict()}, r'its weights have names such as backbone\.0\.0\.weight'),
    ],
)
def test_another_model_is_no_start(saved, weights, told):
    own = model('DySample')
    if 'network' not in told:
        own['other'] = nn.Sequential(*(nn.Linear(2, 2) for _ in range(8)))
    with pytest.raises(ValueError, match=rf"load_from=\S+ is of another model: it holds \d+ of the model's \d+ weights; {told}"):
        check_to_start(saved(weights), own)


@pytest.mark.parametrize(
    ('prefix', 'found'), [('backbone.', 'backbone.'), ('model.backbone.body.', 'model.backbone.body.'), ('', None), ('backbone', None)]
)
def test_the_prefix_that_fits(prefix, found):
    own = shapes_of(model().backbone.state_dict())
    assert fitting_prefix({f'{prefix}{name}': shape for name, shape in own.items()}, own) == found
    assert fitting_prefix({f'{prefix}{name}': torch.Size([77]) for name in own}, own) is None


def test_a_url_is_checked_after_the_download(tmp_path, monkeypatch):
    """As a file is: for its content, and for the model that it belongs to."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    own = model('DySample')
    torch.save({'state_dict': own.state_dict()}, tmp_path / 'own.pth')
    torch.save({'state_dict': model('CARAFE').state_dict()}, tmp_path / 'carafe.pth')
    torch.save({'state_dict': own.state_dict(), 'args': argparse.Namespace()}, tmp_path / 'args.pth')
    torch.save({'epoch': 3}, tmp_path / 'none.pth')
    with served(tmp_path) as url:
        assert check_to_test(f'{url}/own.pth', own) is None
        with pytest.raises(ValueError, match='carafe.pth is not a checkpoint of this model: .* --upsampler CARAFE'):
            check_to_test(f'{url}/carafe.pth', own)
        with pytest.raises(ValueError, match=r'args\.pth holds more than data: argparse\.Namespace\. .* add --trust-checkpoint'):
            check_to_test(f'{url}/args.pth', own)
        with pytest.raises(ValueError, match=r'none\.pth holds no state_dict of tensors'):
            check_to_test(f'{url}/none.pth', own)
        with pytest.raises(ValueError, match=r'missing\.pth cannot be loaded: HTTPError: HTTP Error 404'):
            check_to_test(f'{url}/missing.pth', own)


@contextmanager
def served(folder):
    """Serve the files of a folder on this machine."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()
