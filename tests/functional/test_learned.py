"""What the lean path keeps, adds up and leaves to others."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmdysample import DySample
from mmdysample.benchmark.memory import peak_memory
from mmdysample.functional import initial_position
from mmdysample.functional.learned import LearnedSampling
from mmdysample.functional.operators import sample, sample_backward

VARIANTS = [dict(), dict(dyscope=True), dict(style='pl', groups=8), dict(style='pl', groups=8, dyscope=True)]


def make(path='lean', channels=16, dtype=torch.float64, **arguments):
    torch.manual_seed(0)
    module = DySample(channels, path=path, **arguments)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.to(dtype)


def gradients(module, x, grad):
    x = x.detach().requires_grad_()
    y = module(x)
    return y, *torch.autograd.grad(y, [x, *module.parameters()], grad)


def kept(module, x):
    """Shapes of what autograd keeps, parameters and buffers left out."""
    own = {t.data_ptr() for t in (*module.parameters(), *module.buffers())}
    found = []

    def pack(t):
        if t.data_ptr() not in own:
            found.append(tuple(t.shape))
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        module(x.detach().requires_grad_())
    return found


@pytest.mark.parametrize('arguments', VARIANTS, ids=str)
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_equals_the_plain_path(arguments, layout):
    x, grad = (
        torch.randn(2, 16, 5, 7, dtype=torch.float64).contiguous(memory_format=layout),
        torch.randn(2, 16, 10, 14, dtype=torch.float64),
    )
    torch.testing.assert_close(gradients(make(**arguments), x, grad), gradients(make('plain', **arguments), x, grad))


@pytest.mark.parametrize('arguments', VARIANTS, ids=str)
def test_keeps_the_map_and_what_the_layers_say_of_it(arguments):
    x = torch.randn(2, 16, 5, 7, dtype=torch.float64)
    module = make(**arguments)
    points = (2, 2 * module.groups * 4, 5, 7)
    assert sorted(kept(module, x)) == sorted([x.shape] + [points] * (1 + module.dyscope))
    assert sum(map(len, kept(make('plain', **arguments), x))) > sum(map(len, kept(module, x)))


def test_memory_of_a_training_step():
    """Beyond what any upsampler needs, the output and the gradient of the map: an eighth of the map for each of raw offset, grid, ..."""
    x, grad = torch.randn(1, 256, 60, 50), torch.randn(1, 256, 120, 100)
    floor = x.nbytes + grad.nbytes

    def step(module):
        leaf = x.detach().requires_grad_()
        module(leaf).backward(grad)
        module.zero_grad(set_to_none=True)

    lean, plain = (peak_memory(lambda path=path: step(make(path, 256, torch.float32))) for path in ('lean', 'plain'))
    assert lean < 1.2 * floor
    assert plain > 1.3 * floor


@pytest.mark.parametrize('frozen', ['x', 'offset', 'scope', 'bias', 'all but x'])
def test_gradients_of_some_alone(frozen):
    x, grad = torch.randn(2, 16, 5, 7, dtype=torch.float64), torch.randn(2, 16, 10, 14, dtype=torch.float64)
    results = []
    for path in ('lean', 'plain'):
        module = make(path, dyscope=True)
        leaf = x.detach().requires_grad_(frozen != 'x')
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(not (name.startswith(frozen) or name.endswith(frozen) or frozen == 'all but x'))
        module(leaf).backward(grad)
        results.append([t.grad for t in (leaf, *module.parameters())])
    torch.testing.assert_close(*results)
    assert any(g is None for g in results[0])


def test_gradcheck_of_the_whole_module():
    module = make(channels=4, dyscope=True, groups=2, scope_factor=0.1)
    x = torch.randn(1, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in module.named_parameters()]

    def function(x, *values):
        return torch.func.functional_call(module, dict(zip(names, values)), (x,))

    assert torch.autograd.gradcheck(function, (x, *(p.detach().requires_grad_() for p in module.parameters())))


@pytest.fixture
def folded(monkeypatch):
    """Whether the layers were taken into the function, call by call."""
    calls = []
    apply = LearnedSampling.apply
    monkeypatch.setattr(LearnedSampling, 'apply', lambda *arguments: calls.append(True) or apply(*arguments))
    return calls


class TestLayersOfOthers:
    """What is done to a layer from outside is done."""

    def setup_method(self):
        self.x, self.grad = torch.randn(2, 16, 5, 7, dtype=torch.float64), torch.randn(2, 16, 10, 14, dtype=torch.float64)
        self.lean, self.plain = make(dyscope=True), make('plain', dyscope=True)

    def check(self):
        torch.testing.assert_close(gradients(self.lean, self.x, self.grad), gradients(self.plain, self.x, self.grad))

    def test_bare_layers_are_taken_in(self, folded):
        self.check()
        assert folded

    def test_hooks_are_called(self, folded):
        seen = []
        for module in (self.lean, self.plain):
            module.offset.register_forward_hook(lambda module, inputs, output: seen.append(module) or 2 * output)
        self.check()
        assert seen == [self.lean.offset, self.plain.offset]
        assert not folded

    def test_hooks_before_a_layer_are_called(self, folded):
        for module in (self.lean, self.plain):
            module.offset.register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],))
        self.check()
        assert not folded

    def test_backward_hooks_are_called(self, folded):
        seen = []
        for module in (self.lean, self.plain):
            module.scope.register_full_backward_hook(lambda module, *_: seen.append(module))
        self.check()
        assert len(seen) == 2
        assert not folded

    def test_global_hooks_are_called(self, folded):
        seen = []
        handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(module))
        try:
            self.check()
        finally:
            handle.remove()
        for module in (self.lean, self.plain):
            assert [seen.count(layer) for layer in (module.offset, module.scope, module)] == [1, 1, 1]
        assert not folded

    def test_parametrizations(self, folded):
        for module in (self.lean, self.plain):
            torch.manual_seed(1)
            nn.utils.parametrizations.weight_norm(module.offset)
        self.check()
        assert not folded

    def test_calls_put_in_their_place(self, folded):
        for module in (self.lean, self.plain):
            forward = module.offset.forward
            module.offset.forward = lambda x, forward=forward: 2 * forward(x)
        self.check()
        assert not folded

    @pytest.mark.parametrize('training', [True, False])
    def test_a_subclass_says_where_to_sample(self, training):
        class Reaching(DySample):
            def predict_offset(self, x):
                return 3 * super().predict_offset(x)

        for module in (self.lean, self.plain):
            module.__class__ = Reaching
        with torch.set_grad_enabled(training):
            torch.testing.assert_close(self.lean(self.x), self.plain(self.x))
        self.check()

    def test_layers_put_in_their_place(self, folded):
        for module in (self.lean, self.plain):
            module.offset = nn.Sequential(module.offset, nn.Tanh())
        self.check()
        assert not folded


def test_a_module_from_before_there_was_a_path():
    module = make(dtype=torch.float32)
    x = torch.randn(2, 16, 5, 7)
    expected = module(x)
    del module.__dict__['path']
    torch.testing.assert_close(copy.deepcopy(module)(x), expected)


def test_checkpointing():
    module = make(dyscope=True)
    x, grad = torch.randn(2, 16, 5, 7, dtype=torch.float64), torch.randn(2, 16, 10, 14, dtype=torch.float64)
    again = lambda x: checkpoint(module, x, use_reentrant=False)  # noqa: E731
    again.parameters = module.parameters
    torch.testing.assert_close(gradients(again, x, grad), gradients(module, x, grad), rtol=0, atol=0)


def test_autocast():
    x, grad = torch.randn(2, 16, 5, 7), torch.randn(2, 16, 10, 14)
    with torch.autocast('cpu', torch.bfloat16):
        got, expected = (gradients(make(path, dtype=torch.float32, dyscope=True), x, grad) for path in ('lean', 'plain'))
    assert [t.dtype for t in got] == [torch.float32] * 5
    for a, b in zip(got, expected):
        torch.testing.assert_close(a, b, rtol=3e-2, atol=1e-2 * b.abs().max().item())


@pytest.mark.parametrize('dynamic', [False, True])
def test_each_gradient_has_the_dtype_of_what_it_is_of(dynamic):
    """As a compiler was told. Eager autograd converts whatever comes."""
    grad, x = torch.randn(1, 4, 6, 10), torch.randn(1, 4, 3, 5)
    points = torch.randn(1, 16, 3, 5, dtype=torch.bfloat16)
    scope = points if dynamic else None
    grads = sample_backward(grad, x, points, scope, initial_position(2, 2), 0.25, 2, 2, False, True, True)
    assert [t.dtype for t in grads[: 2 + dynamic]] == [torch.float32] + [torch.bfloat16] * (1 + dynamic)


def test_backward_within_autocast_is_that_of_the_forward_pass():
    x, grad = torch.randn(2, 16, 5, 7), torch.randn(2, 16, 10, 14)
    module = make(dtype=torch.float32, dyscope=True)
    expected = gradients(module, x, grad)[1:]
    leaf = x.requires_grad_()
    y = module(leaf)
    with torch.autocast('cpu', torch.bfloat16):
        got = torch.autograd.grad(y, [leaf, *module.parameters()], grad)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


@pytest.mark.parametrize('arguments', VARIANTS, ids=str)
@pytest.mark.parametrize('frozen', [False, True])
def test_second_derivatives_equal_those_of_the_plain_path(arguments, frozen):
    """Of a gradient penalty, whose gradients of weights and biases autograd would drop without a word."""
    x = torch.randn(1, 16, 3, 4, dtype=torch.float64, requires_grad=not frozen)
    results = []
    for module in (make(**arguments), make('plain', **arguments)):
        wanted = [t for t in (x, *module.parameters()) if t.requires_grad]
        grads = torch.autograd.grad(module(x).pow(3).sum(), wanted, create_graph=True)
        results.append(torch.autograd.grad(sum(g.square().sum() for g in grads), wanted))
    torch.testing.assert_close(*results)
    assert all(g.abs().sum() > 0 for g in results[0])


def test_second_derivatives_under_autocast_are_those_of_the_plain_path():
    x = torch.randn(1, 16, 3, 4, requires_grad=True)
    results = []
    for path in ('lean', 'plain'):
        module = make(path, dtype=torch.float32, dyscope=True)
        with torch.autocast('cpu', torch.bfloat16):
            y = module(x)
        (grad,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        results.append(torch.autograd.grad(grad.square().sum(), list(module.parameters())))
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, rtol=3e-2, atol=2e-2 * b.abs().max().item())


def test_the_operator_is_differentiated_twice():
    x = torch.randn(1, 8, 3, 4, dtype=torch.float64, requires_grad=True)
    offset, scope = (0.3 * torch.randn(1, 16, 3, 4, dtype=torch.float64) for _ in range(2))
    call = lambda *t: sample(*t, initial_position(2, 2).double(), 0.25, 2, 2, False)  # noqa: E731
    assert torch.autograd.gradgradcheck(call, (x, offset.requires_grad_(), scope.requires_grad_()))


@pytest.mark.parametrize('which', range(3))
def test_tensors_on_two_devices_are_an_error(which):
    tensors = [torch.randn(1, 8, 3, 4), torch.randn(1, 16, 3, 4), initial_position(2, 2)]
    tensors[which] = tensors[which].to('meta')
    with pytest.raises(ValueError, match='all tensors must be on one device, got .*meta'):
        sample(tensors[0], tensors[1], None, tensors[2], 0.25, 2, 2, False)


def test_deterministic_algorithms_are_no_hindrance():
    x, grad = torch.randn(2, 16, 5, 7, dtype=torch.float64), torch.randn(2, 16, 10, 14, dtype=torch.float64)
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (gradients(make(dyscope=True), x, grad) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
