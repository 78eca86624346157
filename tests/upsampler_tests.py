"""What every upsampler must do: a class to inherit, with nothing to say but the name and what is peculiar.

    class TestCARAFE(UpsamplerTests):
        name = 'CARAFE'

What an upsampler cannot do is declared on its own class (``scale_factors``, ``channel_divisor``, ...), and the tests assert that.
"""

import copy
import io

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmdysample import build_upsampler
from mmdysample.benchmark.memory import peak_memory
from mmdysample.benchmark.passes import PASSES, Subject
from mmdysample.catalogue.torch_features import FEATURES, FLOAT, LEAF
from mmdysample.upsamplers import Upsampler

TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 1e-1}
CELLS = {'fx.symbolic_trace': LEAF, 'eager quantisation': FLOAT, 'quantize_dynamic': FLOAT}


class UpsamplerTests:
    #: As in the registry.
    name: str
    #: Channels of the maps that the tests make.
    channels = 64
    #: Sizes of the maps, (height, width).
    sizes = ((1, 1), (7, 4), (5, 9), (6, 6))
    #: Peak memory of a forward pass, and of forward and backward, in multiples of the output.
    memory = (3, 8)

    #: How far a pixel of the map reaches, in pixels of the map; None where a normalisation spreads it over the map.
    reach_of_a_pixel = 2

    #: What the rest of torch cannot do with it, of the columns of ``tools/list_upsamplers.py torch``.
    refused = ()

    #: Weights that start at zero, or close to it, and scale the gradients of others.
    starts_still = ()

    #: Whether the output has the dtype of the input under autocast, too; torch's own modules have autocast's.
    keeps_dtype = True

    @pytest.fixture(autouse=True)
    def _forget_what_was_compiled(self):
        yield
        torch.compiler.reset()

    def make(self, scale_factor=2, channels=None, **arguments):
        return build_upsampler(dict(type=self.name, **arguments), channels or self.channels, scale_factor)

    def randomised(self, scale_factor=2, std=0.1, **arguments):
        """With parameters that all matter, in evaluation mode."""
        module = self.make(scale_factor, **arguments).eval()
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=std)
        return module

    def inputs(self, module, size=(5, 4), batch=2, dtype=torch.float32, channels=None, s=2):
        """A map and, where there is one, a guide."""
        channels = channels or self.channels
        x = torch.randn(batch, channels, *size, dtype=dtype)
        return (x, torch.randn(batch, channels, s * size[0], s * size[1], dtype=dtype)) if self.guided(module) else (x,)

    @staticmethod
    def guided(module):
        return getattr(module, 'guided', False)

    @pytest.mark.parametrize('s', [2, 3, 4])
    def test_any_size_at_any_scale_that_it_has(self, s):
        allowed = getattr(type(self.make()), 'scale_factors', None)
        if allowed and s not in allowed:
            with pytest.raises(ValueError, match=f'scale_factor must be {" or ".join(map(str, allowed))}, got {s}'):
                self.make(s, channels=16 * self.channels)
            return
        channels = 32 * s**2  # which DySample-S and the group norms can divide
        module = self.randomised(s, channels=channels)
        for height, width in self.sizes:
            out = module(*self.inputs(module, (height, width), channels=channels, s=s))
            assert out.shape == (2, channels, s * height, s * width)
            assert out.isfinite().all()

    def test_agrees_with_the_form_that_is_exported(self, monkeypatch):
        """Where an exporter gets another form of the same function."""
        module = self.randomised().double()
        every = [self.inputs(module, size, dtype=torch.float64) for size in ((6, 6), (7, 7), (3, 10))]
        got = [module(*inputs) for inputs in every]
        for place in (
            'functional.reassembly.exporting',
            'upsamplers.a2u.exporting',
            'functional.lean.captured',
            'functional.point_attention.captured',
        ):
            monkeypatch.setattr(f'mmdysample.{place}', lambda: True)
        torch.testing.assert_close(got, [module(*inputs) for inputs in every])

    def test_empty_batch(self):
        module = self.randomised()
        x, *guide = (t.requires_grad_() for t in self.inputs(module, batch=0))
        out = module(x, *guide)
        assert out.shape == (0, self.channels, 10, 8)
        module.train()(x, *guide).sum().backward()
        assert x.grad.shape == x.shape

    @pytest.mark.parametrize('frozen', [False, True])
    def test_output_can_be_changed_in_place(self, frozen):
        """As ``y += skip`` and ``nn.ReLU(inplace=True)`` do after an upsampler, whether the map or only the weights are trained."""
        module = self.randomised()
        x, *guide = self.inputs(module)
        x.requires_grad_(not frozen)
        trained = [t for t in (x, *module.parameters()) if t.requires_grad]
        if not trained:
            return
        skip = torch.randn_like(module(x, *guide))
        expected = torch.autograd.grad((module(x, *guide) + skip).relu().square().sum(), trained)
        y = module(x, *guide)
        y += skip
        torch.testing.assert_close(torch.autograd.grad(y.relu_().square().sum(), trained), expected)

    def test_output_can_be_changed_in_place_after_reentrant_checkpointing(self):
        module = self.randomised()
        x, *guide = self.inputs(module)
        x.requires_grad_()
        (expected,) = torch.autograd.grad((module(x, *guide) + 1).relu().square().sum(), x)
        y = checkpoint(module, x, *guide, use_reentrant=True)
        y += 1
        y.relu_().square().sum().backward()
        torch.testing.assert_close(x.grad, expected)

    def test_any_memory_layout(self):
        module = self.randomised().double()
        inputs = self.inputs(module, dtype=torch.float64)
        expected = module(*inputs)
        for change in (
            lambda t: t.contiguous(memory_format=torch.channels_last),
            lambda t: t.mT.contiguous().mT,
            lambda t: t.repeat_interleave(2, 1)[:, ::2],
        ):
            assert not change(inputs[0]).is_contiguous()
            torch.testing.assert_close(module(*map(change, inputs)), expected)
        module.to(memory_format=torch.channels_last)
        torch.testing.assert_close(module(*(t.contiguous(memory_format=torch.channels_last) for t in inputs)), expected)

    @pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
    def test_dtypes_against_float64(self, dtype):
        module = self.randomised(std=0.02).to(dtype)
        inputs = self.inputs(module, size=(6, 11), dtype=dtype)
        got = module(*inputs)
        assert got.dtype == dtype
        expected = copy.deepcopy(module).double()(*(t.double() for t in inputs))
        torch.testing.assert_close(got.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])

    @pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
    def test_autocast_against_float64(self, dtype):
        module = self.randomised(std=0.02)
        inputs = self.inputs(module, size=(6, 11))
        for tensor in inputs:
            tensor.requires_grad_()
        with torch.autocast('cpu', dtype):
            got = module(*inputs)
        assert got.dtype == (torch.float32 if self.keeps_dtype else dtype)
        got.float().square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
        assert inputs[0].grad.isfinite().all()
        expected = copy.deepcopy(module).double()(*(t.double() for t in inputs))
        torch.testing.assert_close(got.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])

    def test_gradcheck(self):
        module = self.randomised().double()
        inputs = tuple(t.requires_grad_() for t in self.inputs(module, size=(3, 2), dtype=torch.float64))
        names = [name for name, _ in module.named_parameters()]

        def call(*values):
            return torch.func.functional_call(module, dict(zip(names, values[len(inputs) :])), values[: len(inputs)])

        torch.autograd.gradcheck(call, (*inputs, *module.parameters()), fast_mode=True)

    def test_gradgradcheck(self):
        """Second derivatives, as a gradient penalty and MAML take them."""
        module = self.randomised().double()
        inputs = tuple(t.requires_grad_() for t in self.inputs(module, size=(2, 3), batch=1, dtype=torch.float64))
        names = [name for name, _ in module.named_parameters()]

        def call(*values):
            return torch.func.functional_call(module, dict(zip(names, values[len(inputs) :])), values[: len(inputs)])

        torch.autograd.gradgradcheck(call, (*inputs, *module.parameters()), fast_mode=True)

    @pytest.mark.parametrize('by_inputs', [False, True])
    def test_a_gradient_penalty_reaches_every_parameter(self, by_inputs):
        """R1: the squared norm of the gradient of the map, differentiated by the parameters."""
        module = self.randomised(std=0.3).double()
        x, *guide = self.inputs(module, dtype=torch.float64)
        x.requires_grad_()
        parameters = [p for p in module.parameters() if p.requires_grad]
        (grad,) = torch.autograd.grad(module(x, *guide).pow(3).sum(), x, create_graph=True)
        penalty = grad.square().sum()
        if by_inputs and parameters:
            penalty.backward(inputs=parameters)
            got = [p.grad for p in parameters]
        else:
            got = torch.autograd.grad(penalty, [x, *parameters])[1:]
        assert all(g.abs().sum() > 0 for g in got)

    def test_a_step_of_maml(self):
        """The gradient, with respect to the first weights, of the loss after a step of gradient descent, against a difference quotient."""
        module = self.randomised(std=0.3).double()
        if not list(module.parameters()):
            return
        inputs = self.inputs(module, dtype=torch.float64)
        weights = {name: p.detach().requires_grad_() for name, p in module.named_parameters()}

        def outer(weights):
            loss = torch.func.functional_call(module, weights, inputs).square().mean()
            grads = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
            fast = {name: w - 0.1 * g for (name, w), g in zip(weights.items(), grads)}
            return torch.func.functional_call(module, fast, inputs).square().mean()

        grads = torch.autograd.grad(outer(weights), list(weights.values()))
        step = 1e-6  # small enough that no sampling point crosses a pixel
        direction = [torch.randn_like(w) for w in weights.values()]
        ends = [
            outer({n: w.detach().add(d, alpha=sign * step).requires_grad_() for (n, w), d in zip(weights.items(), direction)})
            for sign in (1, -1)
        ]
        expected = (ends[0] - ends[1]).item() / (2 * step)
        assert sum((g * d).sum().item() for g, d in zip(grads, direction)) == pytest.approx(expected, rel=2e-3, abs=1e-9)

    def test_torch_func_transforms_it(self):
        module = self.randomised().double()
        x, *guide = self.inputs(module, dtype=torch.float64, batch=3)
        if isinstance(module, nn.Module) and any(isinstance(m, nn.BatchNorm2d) for m in module.modules()):
            module.eval()
        call = lambda x, *guide: module(x[None], *(g[None] for g in guide))[0]  # noqa: E731
        torch.testing.assert_close(torch.func.vmap(call)(x, *guide), module(x, *guide))
        got = torch.func.grad(lambda x: module(x, *guide).square().sum())(x)
        leaf = x.clone().requires_grad_()
        torch.testing.assert_close(got, torch.autograd.grad(module(leaf, *guide).square().sum(), leaf)[0])

    def test_forward_mode_differentiation(self):
        module = self.randomised().double()
        x, *guide = self.inputs(module, dtype=torch.float64)
        direction = torch.randn_like(x)
        _, got = torch.func.jvp(lambda x: module(x, *guide), (x,), (direction,))
        step = 1e-6
        expected = (module(x + step * direction, *guide) - module(x - step * direction, *guide)) / (2 * step)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize('feature', [name for name in FEATURES if not name.startswith('func.')])
    def test_the_rest_of_torch(self, feature):
        if feature in self.refused:
            with pytest.raises(AssertionError, match='not supported'):
                FEATURES[feature](self.name)
            return
        if feature == 'FSDP2' and not hasattr(torch.cpu.Stream, 'record_event'):  # torch 2.6
            with pytest.raises(ImportError, match='cannot run FSDP2 on a CPU'):
                FEATURES[feature](self.name)
            return
        assert FEATURES[feature](self.name) == CELLS.get(feature, 'yes')

    def test_fx_traces_it_alone(self):
        module = self.randomised()
        traced = torch.fx.symbolic_trace(module)
        for size in ((5, 4), (3, 7)):
            inputs = self.inputs(module, size)
            torch.testing.assert_close(traced(*inputs), module(*inputs), rtol=0, atol=0)
        assert [key.rpartition('upsampler.')[2] for key in traced.state_dict()] == list(module.state_dict())

    @pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
    def test_compiled_under_autocast_it_trains_as_in_eager_mode(self, dtype):
        module = self.randomised(std=0.02)
        inputs = tuple(t.requires_grad_() for t in self.inputs(module))
        # Open sizes are tested without autocast. Here they would double the time.
        compiled = torch.compile(module, fullgraph=True, backend='aot_eager', dynamic=False)
        results = []
        for call in (module, compiled):
            with torch.autocast('cpu', dtype):
                y = call(*inputs)
            results.append((y, *torch.autograd.grad(y.float().square().sum(), inputs)))
        assert results[0][0].dtype == results[1][0].dtype
        for expected, got in zip(*results):
            torch.testing.assert_close(got.float(), expected.float(), rtol=1e-1, atol=1e-1 * expected.abs().max().item())

    def test_built_on_meta_it_is_initialised_later(self):
        fresh = self.make()
        with torch.device('meta'):
            module = self.make()
        assert all(t.is_meta for t in (*module.parameters(), *module.buffers()))
        module.to_empty(device='cpu')
        for tensor in (*module.parameters(), *module.buffers()):
            with torch.no_grad():
                tensor.fill_(1e6)
        for part in module.modules():  # as FSDP and others do
            if hasattr(part, 'reset_parameters'):
                part.reset_parameters()
        module.reset_parameters() if hasattr(module, 'reset_parameters') else None
        for (name, expected), got in zip(fresh.named_buffers(), module.buffers()):
            torch.testing.assert_close(got, expected, msg=name)
        for (name, expected), got in zip(fresh.named_parameters(), module.named_parameters()):
            assert got[1].std(correction=0).item() == pytest.approx(expected.std(correction=0).item(), rel=0.3), name

    def test_a_checkpoint_is_assigned_to_a_module_on_meta(self):
        source = self.randomised()
        with torch.device('meta'):
            module = self.make().eval()
        module.load_state_dict(source.state_dict(), assign=True)
        inputs = self.inputs(source)
        torch.testing.assert_close(module(*inputs), source(*inputs))

    def test_device_and_dtype_are_arguments(self):
        if not hasattr(type(self.make()), 'guided'):
            return  # a module of torch.nn
        module = self.make(device='meta', dtype=torch.float64)
        assert all(p.is_meta and p.dtype == torch.float64 for p in module.parameters())
        empty = nn.utils.skip_init(type(module), self.channels)
        assert empty.in_channels == self.channels
        assert not any(t.is_meta for t in (*empty.parameters(), *empty.buffers()))

    @pytest.mark.parametrize('value', [float('nan'), float('inf')])
    def test_a_pixel_that_is_not_finite_stays_so_where_it_is_read(self, value):
        """And does not spread further than its neighbourhood in the map."""
        module = self.randomised().eval()
        x, *guide = self.inputs(module, size=(17, 19), batch=1)
        x[0, :, 8, 9] = value
        reach = self.reach_of_a_pixel
        out = module(x, *guide)
        assert not out[0, :, 16:18, 18:20].isfinite().any()
        if reach is not None:
            far = torch.ones(34, 38, dtype=torch.bool)
            far[2 * (8 - reach) : 2 * (9 + reach), 2 * (9 - reach) : 2 * (10 + reach)] = False
            assert out[0, :, far].isfinite().all()

    def test_numpy_integers_are_arguments(self):
        module = build_upsampler(self.name, np.int64(self.channels), np.int32(2))
        assert type(getattr(module, 'in_channels', 0)) is int
        assert module(*self.inputs(module)).shape == (2, self.channels, 10, 8)
        if isinstance(module, Upsampler):  # built without the builder, which converts them too
            assert type(type(module)(np.int64(self.channels)).in_channels) is int

    def test_one_pixel_alone(self):
        """A map of one pixel in a batch of one, in training and evaluation."""
        module = self.make(channels=32 if self.channels == 64 else None)
        channels = 32 if self.channels == 64 else self.channels
        inputs = self.inputs(module, (1, 1), batch=1, channels=channels)
        assert module.eval()(*inputs).shape == (1, channels, 2, 2)
        torch.testing.assert_close(module(*(t.repeat(2, 1, 1, 1) for t in inputs))[:1], module(*inputs), rtol=1e-4, atol=1e-5)

    def test_every_parameter_learns(self):
        module = self.make()
        for name in self.starts_still:
            nn.init.normal_(module.get_parameter(name))
        module(*(t.requires_grad_() for t in self.inputs(module))).square().sum().backward()
        assert [name for name, p in module.named_parameters() if p.requires_grad and not p.grad.abs().sum() > 0] == []

    def test_compiles_into_one_graph(self):
        module = self.randomised()
        compiled = torch.compile(module, fullgraph=True, backend='aot_eager', dynamic=True)
        for size in ((3, 5), (6, 4)):
            inputs = self.inputs(module, size)
            torch.testing.assert_close(compiled(*inputs), module(*inputs), rtol=1e-4, atol=1e-4)

    def test_onnx_by_the_tracing_exporter(self, tmp_path):
        names = ['x', 'guide']
        dynamic = {name: {0: 'batch', 2: f'{name}_height', 3: f'{name}_width'} for name in names}
        self._check_onnx(tmp_path, 16, lambda n: dict(dynamo=False, dynamic_axes={name: dynamic[name] for name in names[:n]}))

    def _check_onnx(self, tmp_path, opset, options):
        """At batches and sizes other than the exported ones, in onnxruntime."""
        ort = pytest.importorskip('onnxruntime')
        module = self.randomised(std=0.05)
        inputs = self.inputs(module, size=(4, 6))
        path = str(tmp_path / 'model.onnx')
        names = ['x', 'guide'][: len(inputs)]
        torch.onnx.export(module, inputs, path, opset_version=opset, input_names=names, **options(len(inputs)))
        session = ort.InferenceSession(path)
        for batch, size in ((3, (7, 5)), (2, (4, 6)), (2, (2, 9))):
            inputs = self.inputs(module, size, batch)
            (got,) = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, inputs)})
            torch.testing.assert_close(torch.from_numpy(got), module(*inputs), rtol=1e-3, atol=1e-3)

    def test_state_dict_and_copies(self):
        module = self.randomised()
        inputs = self.inputs(module)
        expected = module(*inputs)
        loaded = self.make().eval()
        loaded.load_state_dict(module.state_dict())
        file = io.BytesIO()
        torch.save(module, file)
        file.seek(0)
        for other in (loaded, copy.deepcopy(module), torch.load(file, weights_only=False)):
            torch.testing.assert_close(other(*inputs), expected, rtol=0, atol=0)

    def test_initialisation_survives_a_xavier_neck(self):
        model = pytest.importorskip('mmengine.model')

        class Neck(model.BaseModule):
            def __init__(self, upsampler):
                super().__init__(init_cfg=dict(type='Xavier', layer='Conv2d', distribution='uniform', gain=10))
                self.upsamplers = model.ModuleList([upsampler])

        fresh, module = self.make(channels=256), self.make(channels=256)
        neck = Neck(module)
        neck.init_weights()
        for (name, expected), got in zip(fresh.named_parameters(), module.parameters()):
            assert got.std(correction=0).item() == pytest.approx(expected.std(correction=0).item(), rel=0.3), name
            assert got.mean().item() == pytest.approx(expected.mean().item(), abs=0.3 * expected.std(correction=0).item()), name

    def test_names_what_is_wrong_with_the_input(self):
        module = self.make()
        x, *guide = self.inputs(module)
        s = module.scale_factor
        for wrong in (x[:, 1:], x[0], x[None]):
            with pytest.raises(ValueError, match=rf'expected a map \(B, {self.channels}, H, W\), got the shape'):
                module(wrong, *guide)
        if not self.guided(module):
            return
        with pytest.raises(ValueError, match=rf'needs a second map, the guide \(2, {self.channels}, {5 * s}, {4 * s}\), got None'):
            module(x)
        for wrong in (guide[0][:, 1:], guide[0][:, :, 1:], guide[0][1:], x):
            with pytest.raises(ValueError, match=rf'expected a guide \(B, {self.channels}, {s}\*H, {s}\*W\) = .*, got the shape'):
                module(x, wrong)

    def test_names_a_dtype_that_is_not_floating_point(self):
        module = self.make()
        x, *guide = self.inputs(module)
        ones, zeros = torch.ones(self.channels), torch.zeros(self.channels)
        for change, dtype, remedy in (
            (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.quint8), 'quint8', r'put a torch\.ao\.quantization\.DeQuantStub before'),
            (lambda t: torch.quantize_per_channel(t, ones, zeros, 1, torch.qint8), 'qint8', 'put a torch'),
            (lambda t: t.byte(), 'uint8', 'convert it first'),
            (lambda t: t.long(), 'int64', 'convert it first'),
            (lambda t: t > 0, 'bool', 'convert it first'),
            (lambda t: t.cfloat(), 'complex64', 'convert it first'),
        ):
            with pytest.raises(ValueError, match=rf'expected a floating-point map, got torch\.{dtype}: {remedy}'):
                module(change(x), *guide)
            if guide:
                with pytest.raises(ValueError, match=rf'expected a floating-point guide, got torch\.{dtype}: {remedy}'):
                    module(x, change(guide[0]))

    def test_names_what_is_wrong_with_the_arguments(self):
        divisor = type(self.make()).channel_divisor
        if divisor > 1:
            with pytest.raises(ValueError, match=f'in_channels must be divisible by {divisor}, got {divisor + 1}'):
                self.make(channels=divisor + 1)
        with pytest.raises(ValueError, match='in_channels must be a positive integer, got -64'):
            self.make(channels=-64)
        with pytest.raises(ValueError, match=r'scale_factor must be a positive integer, got 2\.5'):
            self.make(2.5)

    def test_memory(self):
        for (label, run), limit in zip(PASSES.items(), self.memory):
            module = self.randomised(channels=256)
            inputs = self.inputs(module, (60, 50), batch=1, channels=256)
            output = module(*inputs)
            assert peak_memory(run(Subject(module, inputs, torch.ones_like(output)))) < limit * output.nbytes, label


class CompiledUpsamplerTests(UpsamplerTests):
    """With torch's default compiler and its newer exporter, too; one upsampler of each kind is enough for these, which take their time."""

    @pytest.mark.slow
    def test_compiles_with_the_default_backend_and_trains(self):
        module = self.randomised()
        inputs = tuple(t.requires_grad_() for t in self.inputs(module))
        expected = torch.autograd.grad(module(*inputs).square().sum(), inputs)
        got = torch.autograd.grad(torch.compile(module, fullgraph=True)(*inputs).square().sum(), inputs)
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)

    @pytest.mark.slow
    def test_onnx_by_the_capturing_exporter(self, tmp_path):
        batch, height, width = (torch.export.Dim(name, min=2, max=512) for name in ('batch', 'height', 'width'))
        shapes = ({0: batch, 2: height, 3: width}, {0: batch, 2: 2 * height, 3: 2 * width})
        self._check_onnx(tmp_path, 18, lambda n: dict(dynamo=True, dynamic_shapes=shapes[:n], verbose=False))
