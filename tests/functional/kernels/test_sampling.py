"""The Triton kernels: on a GPU where there is one, and otherwise by Triton's interpreter on the CPU."""

import os
import subprocess
import sys

import pytest
import torch
from reference import dysample_loop
from torch.utils.checkpoint import checkpoint

pytest.importorskip('triton')

from mmdysample import DySample
from mmdysample.functional import initial_position, sample, sampling_offset
from mmdysample.functional.kernels import launch, sampling

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
pytestmark = pytest.mark.filterwarnings('ignore:overflow encountered in exp:RuntimeWarning')
TOLERANCE = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


@pytest.fixture(autouse=True)
def _no_tf32():
    """Convolutions on a GPU compute in float32 here, whereas torch's default rounds their inputs to TensorFloat-32."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def inputs(size, s=2, groups=2, share=3, batch=2, dynamic=False, spread=2.0, dtype=torch.float32):
    """A map, raw offset and scope, the positions, and a gradient of the output."""
    height, width = size
    points = 2 * groups * s * s

    def random(channels, *size):
        return torch.randn(batch, channels, *size, device=DEVICE).to(dtype)

    x = random(groups * share, height, width)
    offset = spread * random(points, height, width)
    scope = random(points, height, width) if dynamic else None
    position = initial_position(s, groups).to(DEVICE)
    return x, offset, scope, position, random(groups * share, s * height, s * width)


def run(x, offset, scope, position, grad, s, groups, fused=True, scope_factor=0.25):
    """Output and gradients, on the CPU. The plain formulation also runs there, because its backward pass on CUDA is not deterministic."""
    device = DEVICE if fused else 'cpu'
    leaves = [None if t is None else t.detach().to(device).requires_grad_() for t in (x, offset, scope)]
    y = sample(*leaves, position.to(device), scope_factor, s, groups, fused)
    grads = torch.autograd.grad(y, [t for t in leaves if t is not None], grad.to(device))
    return [t.cpu() for t in (y, *grads)]


def away_from_kinks(offset, scope, position, size, s):
    """Which points lie so far from the middle of a pixel, where their gradient jumps, that rounding does not take them across."""
    height, width = size
    distance = sampling_offset(offset.double(), None if scope is None else scope.double(), position, 0.25)
    column = torch.arange(width, device=DEVICE) + distance.unflatten(1, (2, -1))[:, 0]
    row = torch.arange(height, device=DEVICE)[:, None] + distance.unflatten(1, (2, -1))[:, 1]
    near = [((at - at.round()).abs() < 1e-3) & (at > -1e-3) & (at < length - 1 + 1e-3) for at, length in ((column, width), (row, height))]
    return ~(near[0] | near[1]).repeat(1, 2, 1, 1)


def assert_agrees(case, s, groups, fused_case=None):
    """Fused in a dtype against the plain formulation of the same numbers in float64."""
    x, offset, scope, position, _ = case
    got = run(*(fused_case or case), s, groups)
    expected = run(*(None if t is None else t.double() for t in case), s, groups, fused=False)
    sure = away_from_kinks(offset, scope, position, x.shape[2:], s).cpu()
    assert sure.double().mean() > 0.95
    tolerance = TOLERANCE[x.dtype]
    for name, a, b in zip(('y', 'x', 'offset', 'scope'), got, expected):
        assert a.dtype == x.dtype
        assert a.isfinite().all()
        if name in ('offset', 'scope'):
            a, b = a * sure, b * sure
        scale = max(b.abs().max().item(), 1.0)
        torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=tolerance * scale, msg=lambda m, name=name: f'{name}: {m}')


@pytest.mark.parametrize('size', [(1, 1), (1, 5), (4, 1), (5, 7), (16, 16), (33, 18)])
@pytest.mark.parametrize('dynamic', [False, True])
def test_any_size(size, dynamic):
    assert_agrees(inputs(size, dynamic=dynamic), 2, 2)


def test_a_large_map():
    assert_agrees(inputs((257, 130) if DEVICE == 'cuda' else (49, 34), batch=1, dynamic=True), 2, 2)  # the interpreter is slow


# The interpreter takes seconds for many points, or for many channels.
SOME = [(1, 1, 1), (1, 4, 2), (1, 2, 70), (2, 1, 1), (2, 8, 5), (3, 1, 8), (3, 4, 2), (4, 1, 8), (4, 4, 2)]
ALL = [(s, groups, share) for s in (1, 2, 3, 4) for groups, share in ((1, 1), (1, 8), (4, 2), (8, 5), (2, 70))]


@pytest.mark.parametrize(('s', 'groups', 'share'), ALL if DEVICE == 'cuda' else SOME)
def test_any_scale_and_groups(s, groups, share):
    assert_agrees(inputs((4, 6), s, groups, share, dynamic=s % 2 == 0), s, groups)


@pytest.mark.parametrize('dtype', list(TOLERANCE))
@pytest.mark.parametrize('dynamic', [False, True])
def test_any_dtype(dtype, dynamic):
    assert_agrees(inputs((9, 14), dynamic=dynamic, spread=0.5, dtype=dtype), 2, 2)


@pytest.mark.parametrize('dynamic', [False, True])
def test_points_go_as_far_as_they_are_told(dynamic):
    case = inputs((5, 7), dynamic=dynamic)
    torch.testing.assert_close(*(run(*case, 2, 2, fused=fused, scope_factor=0.7) for fused in (True, False)), rtol=1e-4, atol=1e-4)


LAYOUTS = {
    'channels_last': lambda t: t.contiguous(memory_format=torch.channels_last),
    'transposed': lambda t: t.mT.contiguous().mT,
    'every other channel': lambda t: t.repeat_interleave(2, 1)[:, ::2],
    'expanded': lambda t: t[:1].expand_as(t),
}


@pytest.mark.parametrize('layout', list(LAYOUTS))
def test_any_layout(layout):
    x, offset, scope, position, grad = inputs((5, 7), share=4, dynamic=True)
    case = [LAYOUTS[layout](t) if t.dim() == 4 and t is not position else t for t in (x, offset, scope, position, grad)]
    assert not case[0].is_contiguous()
    assert_agrees(case, 2, 2)
    y = sample(*case[:4], 0.25, 2, 2, True)
    assert y.is_contiguous(memory_format=torch.channels_last if layout == 'channels_last' else torch.contiguous_format)


@pytest.mark.parametrize(('spread', 'dynamic'), [(30.0, True), (1e4, False), (1e30, True)])
def test_offsets_far_beyond_the_map(spread, dynamic):
    x, offset, scope, position, grad = inputs((3, 5), batch=1, dynamic=dynamic)
    # Far out float32 has no fractions: whole steps, which no rounding moves across a border.
    offset = (spread * offset.sign() * offset.abs().ceil()).float()
    assert_agrees((x, offset, scope, position, grad), 2, 2)


def test_points_on_pixels_and_on_the_border_itself():
    """Where the gradient jumps; sizes of which no coordinate is rounded."""
    x, offset, _, position, grad = inputs((8, 4))
    case = x, torch.zeros_like(offset), None, torch.zeros_like(position), grad
    torch.testing.assert_close(*(run(*case, 2, 2, fused=fused) for fused in (True, False)))


def test_nan_samples_the_centre_of_its_pixel():
    x, offset, _, position, _ = inputs((5, 7))
    for i, value in enumerate((float('nan'), float('inf'), -float('inf'), 3e38)):
        offset[0, i] = value
    y = sample(x, offset, None, position, 0.25, 2, 2, True)
    assert y.isfinite().all()
    torch.testing.assert_close(y, sample(x, offset, None, position, 0.25, 2, 2, False))


def test_equals_the_slow_loop():
    x, offset, scope, position, _ = inputs((3, 5), s=3, dynamic=True)
    distance = sampling_offset(offset.double(), scope.double(), position, 0.25)
    expected = dysample_loop(x.double().cpu(), distance.cpu(), 3, 2)
    got = sample(x, offset, scope, position, 0.25, 3, 2, True)
    torch.testing.assert_close(got.double().cpu(), expected, rtol=1e-5, atol=1e-5)


def test_more_numbers_than_32_bits_count():
    """The channels of a map so far apart that the last begins beyond 2**31; memory that nobody touches costs nothing."""
    x, offset, _, position, grad = inputs((4, 6), groups=1, share=3, batch=1, dtype=torch.float16)
    far = torch.empty(2 * 2**30 + 4 * 6, dtype=torch.float16, device=DEVICE).as_strided(x.shape, (0, 2**30, 6, 1)).copy_(x)
    wide_grad = torch.empty(2 * 2**30 + 8 * 12, dtype=torch.float16, device=DEVICE).as_strided(grad.shape, (0, 2**30, 12, 1)).copy_(grad)
    case = x, offset, None, position, grad
    assert launch.Call(far, offset, None, position, 0.25, 2, 1).wide(far)
    assert not launch.Call(x, offset, None, position, 0.25, 2, 1).wide(x)
    assert_agrees(case, 2, 1, (far, offset, None, position, wide_grad))


@pytest.mark.usefixtures('deterministic')
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_other_block_sizes(layout):
    """So small that there are several programs, and several steps over the channels in each."""
    x, offset, _, position, grad = inputs((2, 3), groups=1, batch=1)
    x, grad = (t.contiguous(memory_format=layout) for t in (x, grad))
    sizes = {kernel: {layout: (16, 2)} for kernel in launch.BLOCKS}
    arguments = (x, offset, None, position, 0.25, 2, 1)
    torch.testing.assert_close(launch.sample_fused(*arguments, sizes), launch.sample_fused(*arguments))
    got, expected = (launch.sample_fused_backward(grad, *arguments, True, True, *given) for given in ((sizes,), ()))
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize('of', ['x', 'offset', 'scope'])
def test_gradients_of_some_alone(of):
    x, offset, scope, position, grad = inputs((5, 7), dynamic=True)
    everything = dict(zip(('x', 'offset', 'scope'), run(x, offset, scope, position, grad, 2, 2)[1:]))
    leaves = {'x': x, 'offset': offset, 'scope': scope}
    leaf = leaves[of].requires_grad_()
    (got,) = torch.autograd.grad(sample(x, offset, scope, position, 0.25, 2, 2, True), leaf, grad)
    torch.testing.assert_close(got.cpu(), everything[of])


@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (dict(x=5), 'channels must be divisible by groups, got channels=5, groups=2'),
        (dict(offset=8), r'offset must have the shape .* = \(2, 16, 5, 7\), got \(2, 8, 5, 7\)'),
        (dict(scope=1), r'scope must have the shape of offset, \(2, 16, 5, 7\), got \(2, 1, 5, 7\)'),
        (dict(position=8), r'position must have the shape .* = \(1, 16, 1, 1\), got \(1, 8, 1, 1\)'),
    ],
    ids=str,
)
def test_nothing_is_read_beyond_what_is_given(wrong, message, fused):
    arguments = dict(zip(('x', 'offset', 'scope', 'position'), inputs((5, 7), dynamic=True)))
    arguments |= {name: arguments[name][:, :channels] for name, channels in wrong.items()}
    with pytest.raises(ValueError, match=message):
        sample(**arguments, scope_factor=0.25, s=2, groups=2, fused=fused)


def test_empty_batch():
    x, offset, scope, position, grad = inputs((5, 7), dynamic=True, batch=0)
    results = run(x, offset, scope, position, grad, 2, 2)
    assert [tuple(t.shape) for t in results] == [(0, 6, 10, 14), (0, 6, 5, 7), (0, 16, 5, 7), (0, 16, 5, 7)]


@pytest.mark.usefixtures('deterministic')
class TestDeterministic:
    @pytest.mark.parametrize('size', [(1, 1), (4, 1), (5, 7), (18, 11)])
    @pytest.mark.parametrize('dynamic', [False, True])
    def test_agrees(self, size, dynamic):
        assert_agrees(inputs(size, dynamic=dynamic), 2, 2)

    @pytest.mark.parametrize(('s', 'groups', 'share'), [(1, 1, 70), (3, 1, 1), (3, 2, 2)])
    def test_any_scale_and_groups(self, s, groups, share):
        assert_agrees(inputs((5, 6), s, groups, share), s, groups)

    def test_channels_last_in_half_precision(self):
        case = inputs((5, 7), share=4, dynamic=True, spread=0.5, dtype=torch.float16)
        case = [t.contiguous(memory_format=torch.channels_last) if t is not case[3] else t for t in case]
        assert_agrees(case, 2, 2)
        assert run(*case, 2, 2)[1].is_contiguous(memory_format=torch.channels_last)

    def test_all_points_in_one_corner(self):
        x, offset, _, position, grad = inputs((3, 4), batch=1)
        assert_agrees((x, torch.full_like(offset, -1e4), None, position, grad), 2, 2)

    def test_points_that_rounding_sorts_into_the_cell_before(self, monkeypatch):
        """Two kernels may round a coordinate in two ways; a point on a pixel then is at the far end of the cell before."""
        case = inputs((3, 4), groups=1, batch=1)
        case = (*case[:3], torch.zeros_like(case[3]), case[4])
        case[1].zero_()  # in the middle of each pixel
        sort = torch.sort
        monkeypatch.setattr(torch, 'sort', lambda cell, stable: sort(torch.where(cell % 4 > 0, cell - 1, cell), stable=stable))
        (got,), (expected,) = (run(*case, 2, 1, fused=fused)[1:2] for fused in (True, False))
        torch.testing.assert_close(got, expected)

    def test_adds_up_without_atomics(self, monkeypatch):
        seen = []
        monkeypatch.setattr(launch, '_gathered', lambda call, grad: seen.append(call) or torch.zeros_like(call.x))
        run(*inputs((5, 7)), 2, 2)
        assert len(seen) == 1


# --- The module ---------------------------------------------------------------------------------------------------------------------


def twins(**arguments):
    """A fused module and a plain one with the same parameters."""
    modules = [DySample(16, path=path, **arguments).to(DEVICE) for path in ('fused', 'plain')]
    for parameter in modules[0].parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    modules[1].load_state_dict(modules[0].state_dict())
    return modules


def train(module, x, grad, amp=None):
    x = x.detach().requires_grad_()
    with torch.autocast(DEVICE, dtype=amp, enabled=amp is not None):
        y = module(x)
    return y, *torch.autograd.grad(y, [x, *module.parameters()], grad.to(y.dtype))


@pytest.mark.parametrize(
    'arguments', [dict(), dict(dyscope=True), dict(style='pl', groups=8), dict(style='pl', groups=8, dyscope=True)], ids=str
)
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_module(arguments, layout):
    fused, plain = (module.to(memory_format=layout) for module in twins(**arguments))
    x, grad = torch.randn(2, 16, 5, 7, device=DEVICE).contiguous(memory_format=layout), torch.randn(2, 16, 10, 14, device=DEVICE)
    torch.testing.assert_close(train(fused, x, grad), train(plain, x, grad), rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(fused(x), plain(x), rtol=1e-4, atol=1e-5)


def test_autocast():
    fused, plain = twins(dyscope=True)
    x, grad = torch.randn(2, 16, 5, 7, device=DEVICE), torch.randn(2, 16, 10, 14, device=DEVICE)
    got, expected = train(fused, x, grad, torch.bfloat16), train(plain, x, grad, torch.bfloat16)
    assert [t.dtype for t in got] == [torch.float32] * 5
    torch.testing.assert_close(got, expected, rtol=3e-2, atol=3e-2 * expected[3].abs().max().item())


def test_checkpointing():
    fused, _ = twins(dyscope=True)
    x, grad = torch.randn(2, 16, 5, 7, device=DEVICE), torch.randn(2, 16, 10, 14, device=DEVICE)
    again = lambda x: checkpoint(fused, x, use_reentrant=False)  # noqa: E731
    again.parameters = fused.parameters
    torch.testing.assert_close(train(again, x, grad), train(fused, x, grad), rtol=1e-5, atol=1e-5)


def test_compiles_into_one_graph():
    fused, _ = twins(dyscope=True)
    compiled = torch.compile(fused, fullgraph=True, backend='aot_eager', dynamic=True)
    for size in ((5, 7), (3, 4)):
        x, grad = torch.randn(2, 16, *size, device=DEVICE), torch.randn(2, 16, 2 * size[0], 2 * size[1], device=DEVICE)
        torch.testing.assert_close(train(compiled, x, grad), train(fused, x, grad), rtol=1e-5, atol=1e-5)
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), fused(x), rtol=1e-5, atol=1e-5)
    torch.compiler.reset()


@pytest.mark.parametrize('dynamic', [False, True])
@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_operator(dynamic, fused, layout):
    """Schema, fake implementation (shapes, dtypes and strides) and autograd, as torch checks operators."""
    x, offset, scope, position, grad = (
        t if t is None or t.shape[0] == 1 else t.contiguous(memory_format=layout) for t in inputs((3, 4), share=4, dynamic=dynamic)
    )
    leaves = [None if t is None else t.requires_grad_() for t in (x, offset, scope)]
    torch.library.opcheck(torch.ops.mmdysample.sample.default, (*leaves, position, 0.25, 2, 2, fused))
    for needed in ((True, True), (True, False), (False, True)):
        arguments = (grad, *(None if t is None else t.detach() for t in leaves), position, 0.25, 2, 2, fused, *needed)
        torch.library.opcheck(torch.ops.mmdysample.sample_backward.default, arguments)


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from mmdysample.functional.kernels import launch, sampling
import torch

BY_NAME = triton.__version__.startswith('3.2.')  # Triton 3.2 keys the constants by their names and takes no types for them
POINTERS = dict.fromkeys('x offset scope position y grad grad_x grad_offset grad_scope'.split(), '*{}')
POINTERS |= dict.fromkeys('cell order starts'.split(), '*i32')
BESIDE = dict(contiguous='x_w y_w o_w s_w g_w', last='x_c y_c o_c s_c g_c', single='height width groups blocks share')
KERNELS = {getattr(sampling, name): blocks for name, blocks in launch.BLOCKS.items()}
KERNELS[sampling.locate] = launch.BLOCKS['gather_gradient']
for layout, ones in BESIDE.items():
    for dynamic, wide, dtype, capability in ((False, False, 'fp32', 90), (True, True, 'bf16', 80), (True, False, 'fp16', 75)):
        for kernel, blocks in KERNELS.items():
            pixels, channels = blocks[torch.channels_last if layout == 'last' else torch.contiguous_format]
            known = dict(S=2, DYNAMIC=dynamic, WIDE=wide, PIXELS=pixels, CHANNELS=channels, OF_X=True, OF_POINTS=True)
            known |= dict.fromkeys(ones.split(), 1)  # as Triton takes them that are 1
            signature, constants = {}, {}
            for parameter in kernel.params:
                name = parameter.name
                if name in known:
                    constants[name if BY_NAME else (parameter.num,)] = known[name]
                    signature |= {} if BY_NAME else {name: 'constexpr'}
                elif name in POINTERS:
                    signature[name] = POINTERS[name].format('fp32' if name in ('position', 'grad_x') else dtype)
                else:
                    signature[name] = 'fp32' if name == 'scope_factor' else 'i64' if wide and name[-1] in 'bc' else 'i32'
            done = compile(ASTSource(kernel, signature, constants), target=GPUTarget('cuda', capability, 32))
            print(kernel.__name__, layout, capability, len(done.asm['cubin']) > 0)
"""


@pytest.mark.slow
def test_kernels_compile_for_gpus():
    """To machine code, for which no GPU is needed; what the interpreter lets pass, types above all, the compiler may not."""
    environment = {key: value for key, value in os.environ.items() if key != 'TRITON_INTERPRET'}
    done = subprocess.run([sys.executable, '-c', COMPILE], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count('True') == 3 * 3 * 4
    assert sampling.sample.__name__ in done.stdout


def test_an_infinite_pixel_is_the_same_in_every_path():
    x, offset, _, position, _ = inputs((7, 9), share=2, dynamic=False)
    x[0, :, 3, 4] = float('inf')
    expected, got = (sample(x, offset, None, position, 0.25, 2, 2, fused) for fused in (False, True))
    assert torch.equal(got.isnan(), expected.isnan())
    assert torch.equal(got.isinf(), expected.isinf())
    assert got.isinf().any()
