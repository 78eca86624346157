"""``mmdysample.Upsampled`` around stock necks, heads and a backbone."""

import copy
import pickle
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from mmdysample import DySample

pytest.importorskip('mmengine')

from mmengine.config import Config
from mmengine.model import Sequential
from mmengine.registry import MODELS, init_default_scope

from mmdysample.engine.upsampler import use_upsampler
from mmdysample.replacement import upsampled

EVEN = [(32, 48), (16, 24), (8, 12), (4, 6)]
ODD = [(37, 50), (19, 25), (10, 13), (5, 7)]  # a backbone rounds up


class Case(NamedTuple):
    """A stock module, and the upsamplers that it should get: their names and channels."""

    scope: str
    module: dict[str, Any]
    channels: list[int]  # of the maps that it takes, finest first
    sites: dict[str, int]
    mode: str = 'nearest'
    odd: bool = False  # whether the stock module takes odd sizes


LEVELS = dict(in_channels=[16, 24, 32], out_channels=8)
CASES = {
    'PAFPN': Case(
        'mmdet',
        dict(type='PAFPN', num_outs=4, **LEVELS),
        [16, 24, 32],
        {'upsample_modules.0': 8, 'upsample_modules.1': 8},
        odd=True,
    ),
    'YOLOXPAFPN': Case(
        'mmdet',
        dict(type='YOLOXPAFPN', num_csp_blocks=1, **LEVELS),
        [16, 24, 32],
        {'upsample_modules.0': 24, 'upsample_modules.1': 16},
    ),
    'CSPNeXtPAFPN': Case(
        'mmdet',
        dict(type='CSPNeXtPAFPN', num_csp_blocks=1, **LEVELS),
        [16, 24, 32],
        {'upsample_modules.0': 24, 'upsample_modules.1': 16},
    ),
    'YOLOV3Neck': Case(  # coarsest first in its config, finest first in its forward
        'mmdet',
        dict(type='YOLOV3Neck', num_scales=3, in_channels=[32, 24, 16], out_channels=[32, 16, 8]),
        [16, 24, 32],
        {'upsample_modules.0': 16, 'upsample_modules.1': 8},
    ),
    'HRFPN': Case(  # upsamples what it is given, before any layer of its own
        'mmdet',
        dict(type='HRFPN', in_channels=[16, 24], out_channels=8, num_outs=2),
        [16, 24],
        {'upsample_modules.0': 24},
        'bilinear',
    ),
    'FPNHead': Case(
        'mmseg',
        dict(
            type='FPNHead',
            in_channels=[8, 16, 24],
            in_index=[0, 1, 3],
            feature_strides=[4, 8, 32],
            channels=12,
            num_classes=3,
            norm_cfg=dict(type='BN'),
        ),
        [8, 16, 1, 24],
        {f'scale_heads.{at}.upsample_modules.0': 12 for at in ('1.1', '2.1', '2.3', '2.5')},
        'bilinear',
        odd=True,
    ),
    'UNet': Case(
        'mmseg',
        dict(type='UNet', base_channels=4, num_stages=3, strides=(1,) * 3, enc_num_convs=(1,) * 3, dec_num_convs=(1,) * 2,
             downsamples=(True,) * 2, enc_dilations=(1,) * 3, dec_dilations=(1,) * 2),
        [],
        {'decoder.0.upsample.interp_upsample.0.upsample_modules.0': 8, 'decoder.1.upsample.interp_upsample.0.upsample_modules.0': 16},
        'bilinear',
    ),
}  # fmt: skip
ALL = pytest.mark.parametrize('name', CASES)


def build_stock(name):
    case = CASES[name]
    pytest.importorskip(case.scope)
    init_default_scope(case.scope)
    return MODELS.build(case.module)


def build(name, upsample_cfg='DySample', **arguments):
    pytest.importorskip(CASES[name].scope)
    init_default_scope(CASES[name].scope)
    return MODELS.build(dict(type='mmdysample.Upsampled', module=CASES[name].module, upsample_cfg=upsample_cfg, **arguments))


def maps(name, sizes=EVEN, **options):
    levels = zip(CASES[name].channels, sizes)
    return tuple(torch.randn(2, c, *size, **options) for c, size in levels) or torch.randn(2, 3, 24, 36, **options)


def as_tuple(out):
    return (out,) if torch.is_tensor(out) else tuple(out)


def upsamplers(module):
    return {name: part for name, part in module.named_modules() if isinstance(part, DySample)}


def evaluate(*modules):
    for module in modules:
        module.eval()  # not to be chained: mmseg's U-Net returns nothing


def randomise(module):
    """Weights and statistics that no two layers share."""
    for key, value in module.state_dict().items():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5) if 'running_var' in key else value.normal_(std=0.3)


class Bilinear(TorchFunctionMode):
    """Make every interpolation bilinear."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.interpolate:
            x, size, scale_factor = (*args, None, None)[:3]
            size, scale_factor = kwargs.get('size', size), kwargs.get('scale_factor', scale_factor)
            return func(x, size, scale_factor, mode='bilinear', align_corners=False)
        return func(*args, **kwargs)


@ALL
def test_sites(name):
    assert {site: module.in_channels for site, module in upsamplers(build(name)).items()} == CASES[name].sites


@ALL
def test_with_the_stock_interpolation_by_name_it_is_the_stock_module(name):
    """Bit for bit, so that each call meets its upsampler and each map its size; with no other weights."""
    case, stock, module = CASES[name], build_stock(name), build(name, CASES[name].mode)
    evaluate(stock, module)
    randomise(stock)
    module.load_state_dict(stock.state_dict(), strict=True)
    for sizes in (EVEN, ODD) if case.odd else (EVEN,):
        inputs = maps(name, sizes)
        for got, expected in zip(as_tuple(module(inputs)), as_tuple(stock(inputs)), strict=True):
            assert torch.equal(got, expected)


@ALL
def test_a_stock_checkpoint_loads_and_zero_offsets_are_bilinear(name):
    stock, module = build_stock(name), build(name)
    evaluate(stock, module)
    randomise(stock)
    missing, unexpected = module.load_state_dict(stock.state_dict(), strict=False)
    stock, module, inputs = stock.double(), module.double(), maps(name, dtype=torch.float64)
    assert unexpected == []
    assert set(missing) == {f'{site}.{key}' for site in CASES[name].sites for key in ('offset.weight', 'offset.bias', 'init_pos')}
    with Bilinear():
        expected = as_tuple(stock(inputs))
    for offset in (1.0, 0.0):
        for upsampler in upsamplers(module).values():
            nn.init.zeros_(upsampler.offset.weight)
            nn.init.constant_(upsampler.offset.bias, offset)
        got = as_tuple(module(inputs))
        errors = [((g - e).abs().max() / e.abs().max()).item() for g, e in zip(got, expected, strict=True)]
        assert (max(errors) < 1e-6) == (offset == 0), errors


@ALL
def test_each_upsampler_stands_at_a_call_of_its_own(name):
    """All of them take part, with gradients, in training."""
    module = build(name)
    sum(out.sin().sum() for out in as_tuple(module(maps(name)))).backward()
    for upsampler in upsamplers(module).values():
        assert upsampler.offset.weight.grad.abs().sum() > 0


@ALL
@pytest.mark.parametrize('init_cfg', [None, dict(type='Xavier', layer='Conv2d', distribution='uniform')])
def test_initialisation_with_a_model_around_it(name, init_cfg):
    """A neck initialises every convolution below it; a plain nn.Sequential in between passes nothing on."""
    parent = Sequential(build(name, dict(type='DySample', init_cfg=init_cfg)))
    parent.init_weights()
    for module in upsamplers(parent).values():
        std = 0.001 if init_cfg is None else (2 / (module.in_channels + 32)) ** 0.5
        assert module.offset.weight.std().item() == pytest.approx(std, rel=0.2)
        assert module.offset.bias.eq(0).all()


@ALL
def test_without_an_upsampler_it_is_the_stock_module(name):
    for upsample_cfg in (None, {}):
        module, stock = build(name, upsample_cfg), build_stock(name)
        assert type(module) is type(stock)
        assert module.state_dict().keys() == stock.state_dict().keys()


@ALL
def test_copies(name):
    module, inputs = build(name), maps(name)
    for upsampler in upsamplers(module).values():
        nn.init.normal_(upsampler.offset.weight)
    evaluate(module)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert isinstance(twin, type(build_stock(name)))
        for got, expected in zip(as_tuple(twin(inputs)), as_tuple(module(inputs)), strict=True):
            assert torch.equal(got, expected)
        # The copy has upsamplers of its own.
        for upsampler in upsamplers(twin).values():
            nn.init.zeros_(upsampler.offset.weight)
        assert any(not torch.equal(got, expected) for got, expected in zip(as_tuple(twin(inputs)), as_tuple(module(inputs))))


def test_the_moving_average_of_the_recipes():
    """YOLOX and RTMDet evaluate an average of the weights, in a copy of the model."""
    module, inputs = build('YOLOXPAFPN'), maps('YOLOXPAFPN')
    averaged = MODELS.build(dict(type='ExpMomentumEMA', model=module, momentum=0.5, gamma=1, update_buffers=True))
    for steps in range(2):  # the first only copies
        for upsampler in upsamplers(module).values():
            nn.init.normal_(upsampler.offset.weight)
        averaged.update_parameters(module)
        if steps == 0:
            before = [copy.deepcopy(upsampler.state_dict()) for upsampler in upsamplers(module).values()]
    momentum = 0.5 * torch.tensor(-2.0).exp() + 0.5
    for mean, old, new in zip(upsamplers(averaged.module).values(), before, upsamplers(module).values(), strict=True):
        torch.testing.assert_close(mean.offset.weight, torch.lerp(old['offset.weight'], new.offset.weight, momentum))
        assert torch.equal(mean.init_pos, new.init_pos)
    evaluate(module, averaged)
    assert not torch.equal(averaged(inputs)[0], module(inputs)[0])
    averaged.module.load_state_dict(module.state_dict())
    assert torch.equal(averaged(inputs)[0], module(inputs)[0])


@pytest.fixture
def one_process():
    dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@ALL
def test_distributed_training(name, one_process):
    """No parameter is left without a gradient, which DDP would complain about in the next step."""
    module, inputs = build(name), maps(name)
    parallel = nn.parallel.DistributedDataParallel(module, find_unused_parameters=False)
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1)
    weights = {site: upsampler.offset.weight.detach().clone() for site, upsampler in upsamplers(module).items()}
    for _ in range(2):
        optimizer.zero_grad()
        sum(out.sin().sum() for out in as_tuple(parallel(inputs))).backward()
        optimizer.step()
    assert all(not torch.equal(upsampler.offset.weight, weights[site]) for site, upsampler in upsamplers(module).items())


@ALL
def test_mixed_precision(name):
    module, inputs = build(name), maps(name)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        outs = as_tuple(module(inputs))
        loss = sum(out.float().sin().sum() for out in outs)
    assert all(out.dtype == torch.bfloat16 for out in outs)
    loss.backward()
    for upsampler in upsamplers(module).values():
        assert upsampler.offset.weight.grad.isfinite().all()
        assert upsampler.offset.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('name', ['YOLOXPAFPN', 'FPNHead'])
def test_compiles_into_one_graph(name):
    module, inputs = build(name), maps(name)
    evaluate(module)
    compiled = torch.compile(module, fullgraph=True, backend='aot_eager')
    for got, expected in zip(as_tuple(compiled(inputs)), as_tuple(module(inputs)), strict=True):
        torch.testing.assert_close(got, expected)
    torch.compiler.reset()


def test_the_flag_of_the_command_line_finds_it():
    config = Config.fromfile('configs/shapes/yolox_tiny_dysample_shapes.py')
    assert use_upsampler(config, 'CARAFE') == 'CARAFE'
    assert config.model.neck.upsample_cfg == dict(type='CARAFE')
    assert 'upsample_cfg' not in config.model.neck.module
    del config.model.neck['upsample_cfg']
    use_upsampler(config, 'DySample-S+')
    assert config.model.neck.upsample_cfg == dict(type='DySample-S+')


def test_sites_are_chosen_in_the_config():
    assert list(upsamplers(build('FPNHead', exclude='scale_heads.2'))) == ['scale_heads.1.1.upsample_modules.0']
    assert [part.in_channels for part in upsamplers(build('YOLOXPAFPN', include='upsample:1')).values()] == [16]


class WithoutInChannels(nn.Module):
    def forward(self, x, y=None):
        x, y = x if y is None else (x, y)
        return F.interpolate(x, scale_factor=2) + y


class OfAnImage(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)

    def forward(self, image):
        return F.interpolate(self.stem(image), scale_factor=3)


@pytest.mark.parametrize('cls', [WithoutInChannels, OfAnImage])
def test_example_inputs_in_the_config(cls):
    """For a module that takes a list of maps, and one that takes a map."""
    arguments = dict(type='mmdysample.Upsampled', module=dict(type=cls), upsample_cfg='DySample')
    with pytest.raises(ValueError, match=f'found no inputs that {cls.__name__} runs on .it has no in_channels.: give .* as example_inputs'):
        MODELS.build(arguments)
    of_an_image = cls is OfAnImage
    module = MODELS.build(dict(arguments, example_inputs=[(1, 3, 5, 7)] if of_an_image else [(1, 8, 5, 7), (1, 8, 10, 14)]))
    assert [(part.in_channels, part.scale_factor) for part in upsamplers(module).values()] == [(8, 3 if of_an_image else 2)]
    with pytest.raises(ValueError, match=f'found no inputs that {cls.__name__} runs on (?s:.*)Error(?s:.*): give the shapes of its maps'):
        MODELS.build(dict(arguments, example_inputs=[(1, 8, 5, 7), (1, 8, 5, 7), (1, 8, 5, 7)]))


@pytest.mark.parametrize(
    ('upsample_cfg', 'message'),
    [
        ('DySampel', "unknown upsampler 'DySampel' .did you mean 'DySample'"),
        ('SAPA-B', 'SAPA-B is guided: .* Use an upsampler that is not guided'),
        (dict(mode='bilinear'), "upsample_cfg needs a type, got {'mode': 'bilinear'}; arguments of the original module belong in module"),
        (dict(type='DySample', scale_factor=2), 'takes no scale_factor, got 2'),
        (dict(type='DySample', groups=5), 'in_channels=8, groups=5'),
    ],
    ids=str,
)
def test_a_wrong_upsampler(upsample_cfg, message):
    with pytest.raises(ValueError, match=message):
        build('PAFPN', upsample_cfg)


def test_a_module_that_does_not_upsample():
    init_default_scope('mmdet')
    pytest.importorskip('mmdet')
    mapper = dict(type='ChannelMapper', in_channels=[8, 16], out_channels=8)
    with pytest.raises(ValueError, match='ChannelMapper has no call that an upsampler can replace .it never calls F.interpolate'):
        MODELS.build(dict(type='mmdysample.Upsampled', module=mapper, upsample_cfg='DySample'))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(in_channels=[8, 16]), 'belong in module=.*, got in_channels; .* needs _delete_=True'),
        (dict(module='PAFPN'), 'belong in module=.*, got PAFPN'),
        (dict(example_inputs=[1, 3, 64, 64]), 'example_inputs must be the shapes of its maps, as in .*, got .1, 3, 64, 64.'),
        (dict(example_inputs='64x64'), 'example_inputs must be the shapes of its maps, as in .*, got 64x64'),
    ],
    ids=str,
)
def test_wrong_arguments(arguments, message):
    given = dict(type='mmdysample.Upsampled', module=dict(type=WithoutInChannels), upsample_cfg='DySample')
    with pytest.raises(ValueError, match=message):
        MODELS.build({**given, **arguments})


def test_the_report_is_logged(monkeypatch):
    lines = []
    monkeypatch.setattr(upsampled, 'print_log', lambda text, logger: lines.append((text, logger)))
    build('PAFPN', 'DySample')
    ((text, logger),) = lines
    assert logger == 'current'
    assert text.startswith('mmdysample.Upsampled, PAFPN:')
    assert 'DySample x2' in text
