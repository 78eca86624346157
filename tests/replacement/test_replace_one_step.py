"""Learned upsampling in place of one step, in every way in which a model may take it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from interpolating import Block, dysamples
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmdysample import build_upsampler, replace_upsample

pytest.importorskip('mmengine')

from mmengine.model import BaseModule


class Step(nn.Module):
    """A x2 after a convolution, in one of the ways that models have; and an 'upsample_modules' of its own, if it is given."""

    def __init__(self, way='scale', channels=8, **children):
        super().__init__()
        self.way = way
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.position = nn.Parameter(torch.randn(1, channels, 4, 4))
        for name, child in children.items():
            setattr(self, name, child)
        self.register_buffer('runs', torch.zeros(1))

    def forward(self, x):
        self.runs += 1
        return getattr(self, self.way)(self.conv(x))

    def scale(self, x):
        return F.interpolate(x, scale_factor=2)

    def size(self, x):
        return F.interpolate(x, size=[2 * n for n in x.shape[2:]])

    def reentrant(self, x):
        return checkpoint(self.scale, x, use_reentrant=True)

    def pooled(self, x):
        return self.scale(x) + F.interpolate(F.adaptive_avg_pool2d(x, 2), size=[2 * n for n in x.shape[2:]])

    def with_position(self, x):
        return F.interpolate(self.position * 1.0, scale_factor=2).mean() + self.scale(x)

    def levels_(self, x):
        return self.levels(x)

    def catching(self, x):
        try:
            self.bad(x)
        except KeyError:
            return self.scale(x)


class Bad(nn.Module):
    def forward(self, x):
        raise KeyError


class Levels(nn.ModuleList):
    """A list that interpolates itself, as mmseg's pyramid pooling does."""

    def forward(self, x):
        for module in self:
            x = F.interpolate(module(x), scale_factor=2)
        return x


IMAGE = torch.randn(1, 3, 8, 8)


@pytest.mark.parametrize('way', ['scale', 'size'])
def test_exports_keep_sizes_open(way, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    model = Step(way).eval()
    replace_upsample(model, 'DySample', IMAGE)
    nn.init.normal_(dysamples(model)[0].offset.weight, std=0.1)
    other = torch.randn(1, 3, 10, 14)
    with torch.no_grad():
        expected = model(other)
        traced = torch.jit.trace(model, IMAGE, check_trace=False)
        torch.testing.assert_close(traced(other), expected, rtol=1e-4, atol=1e-5)
        axes = {'x': {2: 'height', 3: 'width'}}
        torch.onnx.export(model, (IMAGE,), tmp_path / 'model.onnx', opset_version=16, input_names=['x'], dynamic_axes=axes, dynamo=False)
        (got,) = onnxruntime.InferenceSession(tmp_path / 'model.onnx').run(None, {'x': other.numpy()})
        torch.testing.assert_close(torch.from_numpy(got), expected, rtol=1e-4, atol=1e-4)
        sizes = {2: torch.export.Dim('height', min=4, max=64), 3: torch.export.Dim('width', min=4, max=64)}
        exported = torch.export.export(model, (IMAGE,), dynamic_shapes={'x': sizes}, strict=False)
        torch.testing.assert_close(exported.module()(other), expected, rtol=1e-4, atol=1e-5)


def test_a_reentrant_checkpoint_inside_is_refused_and_around_is_not():
    model = Step('reentrant')
    with pytest.raises(ValueError, match=r'Step cannot use these upsamplers and was left unchanged: .* put the checkpoint around'):
        replace_upsample(model, 'DySample', IMAGE)
    assert type(model) is Step
    model.way = 'scale'
    replace_upsample(model, 'DySample', IMAGE)
    nn.init.normal_(dysamples(model)[0].offset.weight, std=0.1)
    gradients = []
    for function in (model, lambda x: checkpoint(model, x, use_reentrant=True), lambda x: checkpoint(model, x, use_reentrant=False)):
        model.zero_grad()
        function(IMAGE.clone().requires_grad_()).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[1], gradients[0])
    torch.testing.assert_close(gradients[2], gradients[0])


def test_a_pooled_map_is_left_and_not_cropped():
    model = Step('pooled')
    report = replace_upsample(model, 'bilinear', IMAGE)
    assert [site.upsampler or site.reason for site in report.sites] == ['bilinear x2', 'the ratio changes with the size of the input']
    x = torch.randn(1, 3, 7, 9)
    pooled = F.interpolate(F.adaptive_avg_pool2d(model.conv(x), 2), size=(14, 18))
    torch.testing.assert_close(model(x), F.interpolate(model.conv(x), scale_factor=2, mode='bilinear') + pooled)


def test_a_position_embedding_is_no_feature_map():
    model = Step('with_position')
    report = replace_upsample(model, 'DySample', IMAGE)
    assert [site.upsampler or site.reason for site in report.sites] == [
        'not a feature map: it does not depend on the input, like a position embedding',
        'DySample x2',
    ]
    assert model(torch.randn(1, 3, 5, 7)).shape == (1, 8, 10, 14)


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        (Step(upsample_modules=nn.ModuleList([nn.Conv2d(8, 8, 1)])), 'Step already has upsample_modules: set its upsample_cfg instead'),
        (Levels([nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)]), 'the only module around it is Levels, a container that cannot have upsamplers'),
        (torch.fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 8, 1), Block())), 'runs compiled code, whose calls cannot be replaced'),
    ],
    ids=['own', 'list', 'compiled'],
)
def test_what_cannot_be_routed_says_so(model, message):
    keys = set(model.state_dict())
    with pytest.raises(ValueError, match=message):
        replace_upsample(model, 'DySample', IMAGE)
    assert set(model.state_dict()) == keys


def test_a_forward_of_the_instance_is_noticed():
    model = Step()
    model.forward = model.forward
    with pytest.raises(ValueError, match='1 of them did not run, for example because forward is set on the instance'):
        replace_upsample(model, 'DySample', IMAGE)
    assert type(model) is Step


def test_a_list_that_interpolates_leaves_it_to_the_module_around():
    model = Step('levels_', levels=Levels([nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)]))
    report = replace_upsample(model, 'DySample', IMAGE)
    assert [(site.name, site.channels) for site in report.replaced] == [('levels:0', 8), ('levels:1', 4)]
    assert len(model.levels) == 2
    assert model(torch.randn(1, 3, 5, 7)).shape == (1, 4, 20, 28)


def test_a_run_leaves_no_trace():
    """Buffers, gradients asked for, modes that train() would do more for, hooks after an error, the inputs themselves."""
    model = Step('catching', bad=Bad(), act=nn.ReLU(inplace=True))
    model.conv.train = None  # not to be called
    x = IMAGE.clone().requires_grad_()
    report = replace_upsample(model, 'DySample', x)
    assert report.sites[0].name == 'Step:0'
    assert model.runs.item() == 0
    assert torch.equal(x, IMAGE)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_initialised_once():
    """mmengine's runner initialises a model before it trains; not after its weights were loaded."""

    class Neck(BaseModule):
        def __init__(self):
            super().__init__(init_cfg=dict(type='Xavier', layer='Conv2d'))
            self.conv = nn.Conv2d(3, 8, 1)

        def forward(self, x):
            return F.interpolate(self.conv(x), scale_factor=2)

    model = Neck()
    replace_upsample(model, 'DySample', IMAGE)
    model.init_weights()
    offset = model.upsample_modules[0].offset
    assert offset.weight.std().item() == pytest.approx(0.001, rel=0.3)
    nn.init.constant_(offset.weight, 0.25)
    model.init_weights()
    assert offset.weight.eq(0.25).all()


def test_the_dtype_is_that_of_the_map():
    """A float32 head on a bfloat16 stem."""
    model = nn.Sequential(nn.Conv2d(3, 8, 1).bfloat16(), Cast(), nn.Upsample(scale_factor=2))
    replace_upsample(model, 'DySample', IMAGE.bfloat16())
    assert dysamples(model)[0].offset.weight.dtype == torch.float32
    assert model(IMAGE.bfloat16()).dtype == torch.float32


class Cast(nn.Module):
    def forward(self, x):
        return x.float()


def test_a_model_without_data():
    with torch.device('meta'):
        model = Step('size')
        report = replace_upsample(model, 'DySample', torch.empty(1, 3, 8, 8))
    assert [site.upsampler for site in report.sites] == ['DySample x2']
    assert all(p.is_meta for p in model.parameters())


def test_numbers_of_numpy_and_lazy_layers():
    model = nn.Sequential(nn.LazyConv2d(8, 1), nn.Upsample(scale_factor=np.float32(2)))
    replace_upsample(model, 'DySample', IMAGE)
    assert model(IMAGE).shape == (1, 8, 16, 16)


def test_a_class_that_was_changed_later_is_not_undone():
    model = Step()
    report = replace_upsample(model, 'DySample', IMAGE)
    torch.nn.utils.parametrizations.weight_norm(model.conv)
    assert model(IMAGE).shape == (1, 8, 16, 16)
    type(model).__name__ = 'Step'
    model.__class__ = type('Wrapped', (type(model),), {})
    with pytest.raises(ValueError, match='Wrapped had its class changed after replace_upsample'):
        report.undo()


def test_ratios_that_are_no_power_of_two():
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Upsample(scale_factor=6))
    x = torch.randn(1, 4, 3, 5)
    report = replace_upsample(model, 'DySample', x)
    assert report.sites[0].upsampler == 'DySample x2 x3'
    assert model(x).shape == (1, 4, 18, 30)
    build_upsampler('DySample', 4, 3)  # which it can have at all


def test_an_input_may_be_changed_in_place():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 1)

        def forward(self, x):
            return F.interpolate(self.conv(x.sub_(0.5)), scale_factor=2)

    image = IMAGE.clone()
    report = replace_upsample(InPlace(), 'DySample', image)
    assert [site.upsampler for site in report.sites] == ['DySample x2']
    assert torch.equal(image, IMAGE)


def test_a_module_that_interpolates_in_one_of_its_runs_is_left():
    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 1)

        def forward(self, x, larger):
            return F.interpolate(self.conv(x), scale_factor=2) if larger else self.conv(x)

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.step = Sometimes()

        def forward(self, x):
            return self.step(x, larger=True).mean() + self.step(x, larger=False).mean()

    with pytest.raises(ValueError, match='its module runs several times and does not make the same calls each time'):
        replace_upsample(Both(), 'DySample', IMAGE)
