"""What every upsampler must do: a class to inherit, with nothing to say but the name and what is peculiar.

    class TestCARAFE(UpsamplerTests):
        name = 'CARAFE'

What an upsampler cannot do is declared on its own class (``scale_factors``, ``channel_divisor``, ...), and the tests assert that.
"""

import copy
import io

import pytest
import torch
from mmengine.model import BaseModule, ModuleList
from torch import nn

from mmdysample import build_upsampler
from mmdysample.benchmark.memory import peak_memory
from mmdysample.benchmark.passes import PASSES, Subject

TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 8e-2}


class UpsamplerTests:
    #: As in the registry.
    name: str
    #: Channels of the maps that the tests make.
    channels = 64
    #: Sizes of the maps, (height, width).
    sizes = ((1, 1), (7, 4), (5, 9), (6, 6))
    #: Peak memory of a forward pass, and of forward and backward, in multiples of the output.
    memory = (3, 8)

    #: Whether the output has the dtype of the input under autocast, too; torch's convolutions have autocast's.
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
        for place in ('functional.reassembly.exporting', 'upsamplers.a2u.exporting', 'functional.deformable.captured'):
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

    def test_every_parameter_learns(self):
        module = self.make()
        if type(module).__name__.startswith('DySample'):  # the offset's weights scale the scope's gradient: small, not zero
            nn.init.normal_(module.offset.weight)
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
        class Neck(BaseModule):
            def __init__(self, upsampler):
                super().__init__(init_cfg=dict(type='Xavier', layer='Conv2d', distribution='uniform', gain=10))
                self.upsamplers = ModuleList([upsampler])

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
