import copy
import io

import pytest
import torch
import torch.nn.functional as F
from conftest import assert_parity, golden_cases
from torch import nn
from upsampler_tests import CompiledUpsamplerTests, UpsamplerTests

from mmdysample import DySample, DySamplePlus, DySampleS, DySampleSPlus
from mmdysample.benchmark.memory import peak_memory

VARIANTS = [DySample, DySamplePlus, DySampleS, DySampleSPlus]


def randomised(module: DySample, std: float = 0.5) -> DySample:
    """With offsets so large that many points leave the map."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)
    return module


@pytest.mark.parametrize(('case', 'golden'), golden_cases('golden_dysample.npz'))
def test_parity_with_the_authors_implementation(case, golden):
    module = DySample(case['in_channels'], case['scale'], case['style'], case['groups'], case['dyscope'])
    assert_parity(module, {**golden, 'buffer/init_pos': golden['init_pos']})


class TestDySample(UpsamplerTests):
    name = 'DySample'
    starts_still = ('offset.weight',)  # it scales the gradient of the scope


class TestDySamplePlus(CompiledUpsamplerTests):
    name = 'DySample+'
    starts_still = ('offset.weight',)


class TestDySampleS(UpsamplerTests):
    name = 'DySample-S'
    starts_still = ('offset.weight',)


class TestDySampleSPlus(UpsamplerTests):
    name = 'DySample-S+'
    starts_still = ('offset.weight',)


class TestTheNaiveDesign(UpsamplerTests):
    name = 'DySample'
    starts_still = ('offset.weight',)

    def make(self, scale_factor=2, channels=None, **arguments):
        return super().make(scale_factor, channels, init_position='nearest', scope_factor=1.0, groups=1, **arguments)


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


@pytest.mark.slow
@pytest.mark.parametrize('cls', VARIANTS)
def test_onnx_at_the_newest_opset(cls, tmp_path):
    ort = pytest.importorskip('onnxruntime')
    module = randomised(cls(32), std=0.2).eval()
    path = str(tmp_path / 'model.onnx')
    x = torch.randn(1, 32, 4, 6)
    dynamic = dict(dynamo=True, dynamic_shapes=({2: torch.export.Dim('height', min=2), 3: torch.export.Dim('width', min=2)},))
    torch.onnx.export(module, (x,), path, opset_version=20, input_names=['x'], **dynamic)
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
    assert model['neck'][0].scope_bias.eq(3).all()


def test_a_loaded_scope_bias_is_a_constant():
    """It comes after optimizer and DDP have taken their parameters, so it must not wait for gradients."""
    module = _loaded(DySamplePlus(16), {**DySamplePlus(16).state_dict(), 'scope.bias': torch.ones(32)})
    assert not module.scope_bias.requires_grad
    assert 'scope_bias' not in dict(module.named_parameters())


def test_init_pos_may_be_left_out():
    state = randomised(DySample(16)).state_dict()
    module = _loaded(DySample(16), {key: value for key, value in state.items() if key != 'init_pos'})
    torch.testing.assert_close(module.state_dict(), state)
    with pytest.raises(RuntimeError, match='Missing key'):
        DySample(16).load_state_dict({})


def _loaded(module, state):
    module.load_state_dict(state)
    return module


def test_init_cfg_takes_over():
    model = pytest.importorskip('mmengine.model')
    module = DySamplePlus(256, init_cfg=dict(type='Xavier', layer='Conv2d', distribution='uniform'))
    model.ModuleList([module]).init_weights()
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
        (dict(in_channels=16, dyscope='no'), "dyscope must be True or False, got 'no'"),
        (dict(in_channels=16, scale_factor=True), 'scale_factor must be a positive integer, got True'),
        (dict(in_channels=16, init_position='middle'), "init_position must be 'bilinear' or 'nearest', got 'middle'"),
        (dict(in_channels=16, scope_factor=0), 'scope_factor must be a positive number, got 0'),
        (dict(in_channels=16, scope_factor='0.25'), "scope_factor must be a positive number, got '0.25'"),
        (dict(in_channels=16, scope_factor=float('nan')), 'scope_factor must be a positive number, got nan'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DySample(**arguments)


def test_repr_names_what_matters():
    assert repr(DySampleSPlus(32)).startswith("DySampleSPlus(\n  32, scale_factor=2, style='pl', groups=8, dyscope=True")
    assert repr(DySample(32, scope_factor=1, init_position='nearest')).count("scope_factor=1.0, init_position='nearest'") == 1


@pytest.mark.parametrize('dyscope', [False, True])
def test_the_scope_factor_is_pixels_per_unit_of_offset(dyscope):
    x = torch.randn(1, 16, 3, 4)
    usual = randomised(DySample(16, dyscope=dyscope))
    wide = DySample(16, dyscope=dyscope, scope_factor=1.0)
    wide.load_state_dict(usual.state_dict())
    torch.testing.assert_close(wide.predict_offset(x) - wide.init_pos, 4 * (usual.predict_offset(x) - usual.init_pos))


@pytest.mark.parametrize('cls', VARIANTS)
def test_a_ratio_of_one(cls):
    module = randomised(cls(32, 1))
    assert module(torch.randn(2, 32, 3, 5)).shape == (2, 32, 3, 5)


def test_the_naive_design_starts_as_nearest_neighbours():
    module = DySample(16, init_position='nearest', scope_factor=1.0, groups=1)
    nn.init.zeros_(module.offset.weight)
    x = torch.randn(1, 16, 3, 4)
    torch.testing.assert_close(module(x), F.interpolate(x, scale_factor=2, mode='nearest'))


def test_the_papers_design_step_by_step():
    """Each row changes one thing; the last two are the registered names."""
    rows = [
        dict(init_position='nearest', scope_factor=1.0, groups=1),
        dict(init_position='bilinear', scope_factor=1.0, groups=1),
        dict(init_position='bilinear', scope_factor=0.25, groups=1),
        dict(init_position='bilinear', scope_factor=0.25, groups=4),
        dict(init_position='bilinear', scope_factor=0.25, groups=4, dyscope=True),
    ]
    modules = [DySample(32, **row) for row in rows]
    assert repr(modules[3]) == repr(DySample(32))
    assert repr(modules[4]).replace('DySample', '') == repr(DySamplePlus(32)).replace('DySamplePlus', '')
    assert [sum(p.numel() for p in module.parameters()) for module in modules] == [264, 264, 264, 1056, 2080]


class Wrapped(nn.Module):
    """A layer inside another, as LoRA wraps one."""

    def __init__(self, base):
        super().__init__()
        self.base = base

    def forward(self, x):
        return 2 * self.base(x)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
@pytest.mark.parametrize('on_meta', [False, True])
def test_a_checkpoint_of_another_dtype_is_assigned(dtype, on_meta):
    with torch.device('meta' if on_meta else 'cpu'):
        module = DySamplePlus(16)
    source = randomised(DySamplePlus(16)).to(dtype)
    module.load_state_dict(source.state_dict(), assign=True)
    x = torch.randn(1, 16, 5, 4, dtype=dtype)
    torch.testing.assert_close(module(x), source(x))
    torch.testing.assert_close(torch.func.functional_call(DySamplePlus(16), source.state_dict(), (x,)), source(x))


@pytest.mark.parametrize('wrap', [Wrapped, nn.Sequential])
def test_a_wrapped_scope_layer_is_called_saved_and_initialised(wrap):
    module = randomised(DySamplePlus(16))
    module.scope = wrap(module.scope)
    keys = set(module.state_dict())
    assert {key for key in keys if key.startswith('scope.')} == {f'scope.{"base" if wrap is Wrapped else 0}.weight'}
    module.reset_parameters()
    assert not any(p.any() for p in module.scope.parameters())


def test_a_copy_made_before_loading_takes_the_scope_bias_too():
    """An average of the weights (EMA) is copied when the training starts, before a checkpoint is loaded."""
    module = DySamplePlus(16)
    average = torch.optim.swa_utils.AveragedModel(module)
    module.load_state_dict({**randomised(DySamplePlus(16)).state_dict(), 'scope.bias': torch.ones(32)})
    average.update_parameters(module)
    torch.testing.assert_close(average.module.state_dict(), module.state_dict())
    assert average.module.state_dict()['scope.bias'].eq(1).all()


def test_modules_pickled_with_a_bias_parameter_load_both_kinds_of_checkpoint():
    for bias in (None, nn.Parameter(torch.full((32,), 2.0), requires_grad=False)):
        old = randomised(DySamplePlus(16))
        expected = copy.deepcopy(old)
        del old._buffers['scope_bias']
        old._non_persistent_buffers_set.discard('scope_bias')
        old.scope.bias = bias
        file = io.BytesIO()
        torch.save(old, file)
        file.seek(0)
        module = torch.load(file, weights_only=False)
        x = torch.randn(1, 16, 4, 5)
        expected.load_state_dict(module.state_dict())
        assert ('scope.bias' in module.state_dict()) == (bias is not None)
        torch.testing.assert_close(module(x), expected(x))
        for state in (expected.state_dict(), {**expected.state_dict(), 'scope.bias': torch.ones(32)}, DySamplePlus(16).state_dict()):
            module.load_state_dict(state)


@pytest.mark.parametrize(('kind', 'name'), [('nearest', 'bilinear'), ('bilinear', 'nearest')])
def test_the_positions_of_a_checkpoint_are_those_of_the_module_and_its_repr(kind, name):
    module = DySample(18, 3, groups=2, init_position=name)
    source = DySample(18, 3, groups=2, init_position=kind)
    module.load_state_dict({key: value.half() for key, value in source.state_dict().items()})
    assert module.init_position == kind
    assert torch.equal(module.init_pos, source.init_pos)
    assert (f'init_position={kind!r}' in repr(module)) == (kind == 'nearest')


def test_other_positions_are_refused_and_not_loaded():
    module = DySample(16)
    state = {**module.state_dict(), 'init_pos': module.init_pos + 0.1}
    with pytest.raises(RuntimeError, match="init_pos must be that of init_position='bilinear' or 'nearest', got "):
        module.load_state_dict(state)
    assert torch.equal(module.init_pos, DySample(16).init_pos)


def test_positions_have_the_default_dtype_where_it_is_wider():
    torch.set_default_dtype(torch.float64)
    try:
        assert DySample(9, 3, groups=1).init_pos[0, 0, 0, 0].item() == -1 / 3
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize('s', [2, 3, 5])
@pytest.mark.parametrize('loaded', [False, True])
def test_in_float64_a_module_without_offsets_is_bilinear_interpolation(s, loaded):
    """To the rounding of float64: float32 would hold the thirds of scale 3 with an error of 1e-8."""
    module = DySample(8, s).double()
    if loaded:
        module.load_state_dict(DySample(8, s).state_dict())
    nn.init.zeros_(module.offset.weight)
    x = torch.randn(1, 8, 9, 7, dtype=torch.float64)
    expected = F.interpolate(x, scale_factor=s, mode='bilinear')
    torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(('dyscope', 'limit'), [(False, 3.5), (True, 8.5)])
def test_a_step_of_training_holds_few_tensors_of_the_size_of_the_offsets(dyscope, limit):
    """Beside the output and the gradient of the map."""
    up = DySample(64, dyscope=dyscope)
    x = torch.randn(2, 64, 40, 44, requires_grad=True)
    grad = torch.ones(2, 64, 80, 88)

    def step():
        torch.autograd.grad(up(x), [x, *up.parameters()], grad)

    assert (peak_memory(step) - grad.nbytes - x.nbytes) / (x.nbytes * 32 / 64) < limit
