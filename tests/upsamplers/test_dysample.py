import copy

import pytest
import torch
import torch.nn.functional as F
from conftest import golden_cases
from mmengine.model import BaseModule, ModuleList
from mmengine.registry import MODELS
from torch import nn

from mmdysample import DySample, DySamplePlus, DySampleS, DySampleSPlus

VARIANTS = [DySample, DySamplePlus, DySampleS, DySampleSPlus]


def randomised(module: DySample, std: float = 0.5) -> DySample:
    """With offsets so large that many points leave the map."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)
    return module


@pytest.mark.parametrize(('case', 'golden'), golden_cases('golden_dysample.npz'))
def test_parity_with_the_authors_implementation(case, golden):
    module = DySample(case['in_channels'], case['scale'], case['style'], case['groups'], case['dyscope']).double()
    state = {key.removeprefix('param/'): value for key, value in golden.items() if key.startswith('param/')}
    module.load_state_dict({**state, 'init_pos': golden['init_pos']})
    x = golden['x'].requires_grad_()
    y = module(x)
    y.backward(golden['grad_y'])
    assert_close = lambda got, expected: torch.testing.assert_close(  # noqa: E731
        got, expected, rtol=0, atol=1e-5 * max(expected.abs().max().item(), 1e-12)
    )
    assert_close(y, golden['y'])
    assert_close(x.grad, golden['grad_x'])
    for name, parameter in module.named_parameters():
        assert_close(parameter.grad, golden[f'grad/{name}'])


@pytest.mark.parametrize('s', [2, 3, 4])
@pytest.mark.parametrize('cls', VARIANTS)
def test_zero_offsets_are_bilinear_interpolation(cls, s):
    module = cls(144, s).double()
    nn.init.zeros_(module.offset.weight)
    x = torch.randn(2, 144, 5, 8, dtype=torch.float64)
    torch.testing.assert_close(module(x), F.interpolate(x, scale_factor=s, mode='bilinear', align_corners=False), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ('cls', 'style', 'groups', 'dyscope', 'parameters'),
    [
        (DySample, 'lp', 4, False, 8224),
        (DySamplePlus, 'lp', 4, True, 16416),
        (DySampleS, 'pl', 8, False, 1040),
        (DySampleSPlus, 'pl', 8, True, 2064),
    ],
)
def test_the_variants_of_the_paper(cls, style, groups, dyscope, parameters):
    module = cls(256)
    assert (module.style, module.groups, module.dyscope) == (style, groups, dyscope)
    assert sum(p.numel() for p in module.parameters()) == parameters
    assert set(module.state_dict()) == {'offset.weight', 'offset.bias', 'init_pos', *(['scope.weight'] if dyscope else [])}
    overridden = cls(256, style='lp', groups=2, dyscope=False)
    assert (overridden.style, overridden.groups, overridden.dyscope) == ('lp', 2, False)


@pytest.mark.parametrize('size', [(1, 1), (1, 5), (7, 4)])
@pytest.mark.parametrize('s', [1, 2, 3])
@pytest.mark.parametrize('cls', VARIANTS)
def test_any_size_and_scale(cls, s, size):
    module = randomised(cls(72, s))
    assert module(torch.randn(2, 72, *size)).shape == (2, 72, s * size[0], s * size[1])
    assert module(torch.randn(0, 72, *size)).shape == (0, 72, s * size[0], s * size[1])


@pytest.mark.parametrize('cls', VARIANTS)
def test_any_memory_layout(cls):
    module = randomised(cls(32)).double()
    x = torch.randn(2, 64, 5, 7, dtype=torch.float64)
    for layout in (x[:, ::2], x[:, :32].contiguous(memory_format=torch.channels_last), x[:, :32].mT.contiguous().mT):
        torch.testing.assert_close(module(layout), module(layout.contiguous()))


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 3e-4), (torch.bfloat16, 4e-2), (torch.float16, 5e-3)])
@pytest.mark.parametrize('cls', VARIANTS)
@pytest.mark.parametrize('s', [2, 3])
def test_low_precision_against_float64(cls, dtype, tolerance, s):
    """Only the offsets and the result are rounded: on 200 columns, rounded coordinates would be off by a tenth of a pixel."""
    module = cls(72, s).to(dtype)
    x = torch.randn(1, 72, 3, 200).to(dtype)
    got = module(x)
    assert got.dtype == dtype
    assert module.init_pos.dtype == torch.float32
    torch.testing.assert_close(got.double(), copy.deepcopy(module).double()(x.double()), rtol=0, atol=tolerance)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_positions_are_added_in_float32(dtype):
    module = randomised(DySample(16, scale_factor=3)).to(dtype)
    x = torch.randn(1, 16, 3, 5).to(dtype)
    expected = module.init_pos + 0.25 * module.offset(x).float()
    torch.testing.assert_close(module.predict_offset(x), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('cls', VARIANTS)
def test_autocast(cls, dtype):
    module = cls(32)
    x = torch.randn(1, 32, 3, 200, requires_grad=True)
    with torch.autocast('cpu', dtype):
        got = module(x)
    got.sum().backward()
    assert got.dtype == x.dtype
    assert module.offset.weight.grad.abs().sum() > 0
    torch.testing.assert_close(got, copy.deepcopy(module).double()(x.double()).float(), rtol=0, atol=1e-2)


@pytest.mark.parametrize('cls', VARIANTS)
def test_gradcheck(cls):
    module = randomised(cls(8, groups=2), std=0.1).double()
    names = [name for name, _ in module.named_parameters()]
    call = lambda x, *values: torch.func.functional_call(module, dict(zip(names, values)), x)  # noqa: E731
    torch.autograd.gradcheck(call, (torch.randn(1, 8, 3, 2, dtype=torch.float64, requires_grad=True), *module.parameters()))


@pytest.mark.parametrize('cls', VARIANTS)
def test_compiles_into_one_graph(cls):
    module = randomised(cls(32))
    compiled = torch.compile(module, fullgraph=True, backend='aot_eager', dynamic=True)
    for size in ((3, 5), (6, 4)):
        x = torch.randn(2, 32, *size)
        torch.testing.assert_close(compiled(x), module(x))


@pytest.mark.slow
def test_compiles_with_the_default_backend():
    module = randomised(DySamplePlus(32))
    x = torch.randn(2, 32, 3, 5)
    torch.testing.assert_close(torch.compile(module, fullgraph=True)(x), module(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('opset', [16, 18, 20])
@pytest.mark.parametrize('cls', VARIANTS)
def test_onnx_at_a_size_other_than_the_traced_one(cls, opset, tmp_path):
    ort = pytest.importorskip('onnxruntime')
    module = randomised(cls(32), std=0.2).eval()
    path = str(tmp_path / 'model.onnx')
    x = torch.randn(1, 32, 4, 6)
    # Opset 16 and 17 come from the exporter that traces, later ones from the one that captures.
    if opset < 18:
        dynamic = dict(dynamo=False, dynamic_axes={'x': {2: 'height', 3: 'width'}})
    else:
        dynamic = dict(dynamo=True, dynamic_shapes=({2: torch.export.Dim('height', min=2), 3: torch.export.Dim('width', min=2)},))
    torch.onnx.export(module, (x,), path, opset_version=opset, input_names=['x'], **dynamic)
    session = ort.InferenceSession(path)
    for size in ((7, 5), (4, 6), (2, 9)):
        x = torch.randn(1, 32, *size)
        (got,) = session.run(None, {'x': x.numpy()})
        torch.testing.assert_close(torch.from_numpy(got), module(x), rtol=1e-3, atol=1e-4)


def test_loads_a_scope_bias_and_computes_with_it():
    older = randomised(DySamplePlus(32))
    state = {**older.state_dict(), 'scope.bias': torch.randn(32)}
    module = DySamplePlus(32)
    module.load_state_dict(state)
    x = torch.randn(1, 32, 4, 5)
    older.scope.bias = nn.Parameter(state['scope.bias'])
    torch.testing.assert_close(module(x), older(x))
    without = {key: value for key, value in state.items() if key != 'scope.bias'}
    assert not torch.allclose(module(x), _loaded(DySamplePlus(32), without)(x))
    assert 'scope.bias' in module.state_dict()
    module.load_state_dict(without)
    torch.testing.assert_close(module(x), _loaded(DySamplePlus(32), without)(x))


def test_loads_a_scope_bias_inside_a_model():
    model = nn.ModuleDict({'neck': nn.ModuleList([DySamplePlus(16)])})
    state = {**model.state_dict(), 'neck.0.scope.bias': torch.full((32,), 3.0)}
    model.load_state_dict(state)
    assert model['neck'][0].scope.bias.eq(3).all()


def test_a_loaded_scope_bias_is_a_constant():
    """It comes after optimizer and DDP have taken their parameters, so it must not wait for gradients."""
    module = _loaded(DySamplePlus(16), {**DySamplePlus(16).state_dict(), 'scope.bias': torch.ones(32)})
    assert not module.scope.bias.requires_grad


def test_init_pos_may_be_left_out():
    state = randomised(DySample(16)).state_dict()
    module = _loaded(DySample(16), {key: value for key, value in state.items() if key != 'init_pos'})
    torch.testing.assert_close(module.state_dict(), state)
    with pytest.raises(RuntimeError, match='Missing key'):
        DySample(16).load_state_dict({})


def _loaded(module, state):
    module.load_state_dict(state)
    return module


@pytest.mark.parametrize('name', ['DySample', 'DySample+', 'DySample-S', 'DySample-S+'])
def test_initialisation_survives_a_xavier_neck(name):
    class Neck(BaseModule):
        def __init__(self):
            super().__init__(init_cfg=dict(type='Xavier', layer='Conv2d', distribution='uniform'))
            self.lateral = nn.Conv2d(256, 256, 1)
            self.upsamplers = ModuleList([MODELS.build(dict(type=name, in_channels=256))])

    neck = Neck()
    neck.init_weights()
    module = neck.upsamplers[0]
    assert module.offset.weight.std().item() == pytest.approx(0.001, rel=0.2)
    assert module.offset.bias.eq(0).all()
    assert module.scope is None or module.scope.weight.eq(0).all()
    assert neck.lateral.weight.std().item() > 0.03


def test_init_cfg_takes_over():
    module = DySamplePlus(256, init_cfg=dict(type='Xavier', layer='Conv2d', distribution='uniform'))
    ModuleList([module]).init_weights()
    assert module.offset.weight.std().item() > 0.03
    assert module.scope.weight.std().item() > 0.03


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(in_channels=30), 'in_channels must be divisible by groups, got in_channels=30, groups=4'),
        (dict(in_channels=18, style='pl', groups=2), r"divisible by scale_factor\*\*2 for style 'pl', got in_channels=18, scale_factor=2"),
        (dict(in_channels=16, style='pp'), "style must be 'lp' or 'pl', got 'pp'"),
        (dict(in_channels=16, scale_factor=0), 'scale_factor must be a positive integer, got 0'),
        (dict(in_channels=16, scale_factor=1.5), r'scale_factor must be a positive integer, got 1\.5'),
        (dict(in_channels=16, groups=-1), 'groups must be a positive integer, got -1'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DySample(**arguments)


@pytest.mark.parametrize('shape', [(1, 8, 4, 4), (16, 4, 4), (1, 16, 4, 4, 4)])
def test_wrong_input(shape):
    with pytest.raises(ValueError, match=r'expected a map \(B, 16, H, W\), got the shape'):
        DySample(16)(torch.zeros(shape))


def test_repr_names_what_matters():
    assert repr(DySampleSPlus(32)).startswith("DySampleSPlus(\n  32, scale_factor=2, style='pl', groups=8, dyscope=True")
