"""Learned upsampling in models that know nothing of it."""

import copy
import pickle
import re

import pytest
import torch
import torch.nn.functional as F
from interpolating import Block, dysamples
from torch import nn

from mmdysample import replace_upsample, restore_upsample
from mmdysample.upsamplers.base import ShapeError


class Decoder(nn.Module):
    """Levels at strides 1, 2, 4 and 16, each sum by another way of interpolating; and what must be left alone."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(3, channels, 3, stride=stride, padding=1) for channels, stride in ((8, 1), (8, 2), (8, 4), (8, 16))
        )
        self.position = nn.Parameter(torch.randn(1, 8, 4, 4))
        self.bilinear = nn.Upsample(scale_factor=2, mode='bilinear')
        self.classify = nn.Conv2d(8, 6, 1)

    def forward(self, image, mask=None):
        fine, half, quarter, coarse = (conv(image) for conv in self.convs)
        quarter = quarter + F.interpolate(self.position, quarter.shape[2:], mode='bicubic')
        quarter = quarter + F.interpolate(coarse, quarter.shape[2:])
        half = half + F.interpolate(quarter, scale_factor=2)
        fine = fine + self.bilinear(half)
        pooled = F.interpolate(F.adaptive_avg_pool2d(coarse, 3), coarse.shape[2:], mode='bilinear')
        if mask is not None:
            fine = fine * F.interpolate(mask[:, None].float(), scale_factor=2)
        fine = fine + pooled.mean() + F.interpolate(F.interpolate(fine, scale_factor=0.5), fine.shape[2:], mode='area').mean()
        return F.interpolate(self.classify(fine), scale_factor=3)


def inputs(height=32, width=64):
    return torch.randn(2, 3, height, width), torch.ones(2, height // 2, width // 2, dtype=torch.bool)


def expected(model, upsamplers, image, mask):
    """The model with its upsamplers, written out."""
    fine, half, quarter, coarse = (conv(image) for conv in model.convs)
    quarter = quarter + F.interpolate(model.position, quarter.shape[2:], mode='bicubic')
    quarter = quarter + upsamplers[1](upsamplers[0](coarse))
    half = half + upsamplers[2](quarter)
    fine = fine + upsamplers[3](half)
    fine = fine * mask.float().repeat_interleave(2, 1).repeat_interleave(2, 2)[:, None]
    pooled = F.interpolate(F.adaptive_avg_pool2d(coarse, 3), coarse.shape[2:], mode='bilinear')
    fine = fine + pooled.mean() + F.interpolate(F.interpolate(fine, scale_factor=0.5), fine.shape[2:], mode='area').mean()
    return F.interpolate(model.classify(fine), scale_factor=3)


def replaced(cfg='DySample', **options):
    model = Decoder()
    report = replace_upsample(model, cfg, inputs(), **options)
    for upsampler in dysamples(model):
        nn.init.normal_(upsampler.offset.weight, std=0.3)
    return model, report


def test_every_site_and_what_became_of_it():
    _, report = replaced()
    assert [(site.name, site.channels, site.size, site.target, site.upsampler or site.reason) for site in report.sites] == [
        ('Decoder:0', 8, (4, 4), (8, 16), '4x4 to 8x16 is not an integer ratio'),
        ('Decoder:1', 8, (2, 4), (8, 16), 'DySample x2 x2'),
        ('Decoder:2', 8, (8, 16), (16, 32), 'DySample x2'),
        ('bilinear', 8, (16, 32), (32, 64), 'DySample x2'),
        ('Decoder:3', 8, (3, 3), (2, 4), '3x3 to 2x4 is not an integer ratio'),
        ('Decoder:4', 1, (16, 32), (32, 64), 'not a feature map: no trained layer comes before it'),
        ('Decoder:5', 8, (32, 64), (16, 32), 'downsampling'),
        ('Decoder:6', 8, (16, 32), (32, 64), "an upsampler cannot replace mode 'area'"),
        (
            'Decoder:7',
            6,
            (32, 64),
            (96, 192),
            'in_channels must be divisible by groups, got in_channels=6, groups=4: groups may be one of 1, 2, 3, 6',
        ),
    ]
    assert report.parameters == 4 * (8 * 32 + 32) == sum(site.parameters for site in report.replaced)
    assert len(report.left) == 6
    assert '| Decoder:1 | 8        | 2x4   | 8x16   | nearest  | DySample x2 x2 ' in str(report)


@pytest.mark.parametrize('size', [(32, 64), (48, 80)])
def test_it_computes_what_is_written_out_with_gradients(size):
    model, _ = replaced()
    model.double()
    image, mask = inputs(*size)
    chain, step = model.upsample_modules
    written_out = [*chain, step, model.bilinear.upsample_modules[0]]
    results = []
    for function in (model, lambda *given: expected(model, written_out, *given)):
        x = image.double().requires_grad_()
        out = function(x, mask)
        model.zero_grad()
        out.square().mean().backward()
        results.append([out.detach(), x.grad, *(p.grad.clone() for p in model.parameters())])
    for ours, reference in zip(*results):
        torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-12)
    assert all(p.grad.abs().sum() > 0 for p in written_out[0].parameters())


def test_all_else_stays_and_comes_back():
    torch.manual_seed(0)
    model = Decoder().train()
    model.convs[0].requires_grad_(False)
    state, image, random = copy.deepcopy(model.state_dict()), inputs(), torch.get_rng_state()
    before = model(*image)
    torch.set_rng_state(random)
    report = replace_upsample(model, 'DySample+', image)
    assert type(model).__name__ == 'Decoder'
    assert isinstance(model, Decoder)
    assert isinstance(model.bilinear, nn.Upsample)
    assert model.training
    assert all(module.training for module in model.modules())
    assert not model.convs[0].weight.requires_grad
    assert all(p.grad is None for p in model.parameters())
    now = model.state_dict()
    assert all(torch.equal(now[key], state[key]) for key in state)
    assert all('upsample_modules' in key for key in now.keys() - state.keys())
    assert not torch.equal(model(*image), before)
    report.undo()
    assert type(model) is Decoder
    assert type(model.bilinear) is nn.Upsample
    assert model.state_dict().keys() == state.keys()
    assert torch.equal(model(*image), before)


def test_copies_pickles_and_checkpoints():
    model, _ = replaced()
    image, mask = inputs()
    out = model(image, mask)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(image, mask), out)
    assert torch.equal(pickle.loads(pickle.dumps(model))(image, mask), out)
    with torch.no_grad():
        twin.upsample_modules[0][0].offset.bias += 1
    assert torch.equal(model(image, mask), out)  # the copy has upsamplers of its own
    assert not torch.equal(twin(image, mask), out)
    fresh, _ = replaced()
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(image, mask), out)
    assert type(restore_upsample(twin)) is Decoder


def test_an_error_of_an_upsampler_leaves_the_torch_function_modes_as_they_were():
    model, _ = replaced()
    model.upsample_modules[0].register_forward_pre_hook(lambda *_: 1 / 0)
    with torch.device('cpu'):  # such a mode
        before = torch.overrides._get_current_function_mode_stack()
        with pytest.raises(ZeroDivisionError):
            model(*inputs())
        assert torch.overrides._get_current_function_mode_stack() == before
    assert len(before) == 1


@pytest.mark.parametrize('dynamic', [False, True])
def test_compiled_in_one_graph(dynamic):
    torch.compiler.reset()
    model, _ = replaced()
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager', dynamic=dynamic)
    for size in ((32, 64), (48, 80)):
        image = inputs(*size)
        out, reference = compiled(*image), model(*image)
        torch.testing.assert_close(out, reference, rtol=1e-4, atol=1e-5)
        gradients = [torch.autograd.grad(y.square().mean(), list(model.parameters())) for y in (out, reference)]
        for ours, wanted in zip(*gradients):
            torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-5)


def test_mixed_precision():
    model, _ = replaced()
    with torch.autocast('cpu', torch.bfloat16):
        out = model(*inputs())
    out.float().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.upsample_modules.parameters())


def test_half_models_get_half_upsamplers():
    model = Decoder().bfloat16()
    image, _ = inputs()
    replace_upsample(model, 'DySample', image.bfloat16())
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model(image.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ('options', 'names'),
    [
        ({'include': 'bilinear'}, ['bilinear']),
        ({'include': ['Decoder:[13]', 'bi*']}, ['Decoder:1', 'bilinear']),
        ({'exclude': ['Decoder']}, ['bilinear']),
        ({'include': 'Decoder', 'exclude': 'Decoder:2'}, ['Decoder:1']),
        ({'predicate': lambda site: site.size[0] >= 8}, ['Decoder:2', 'bilinear']),
    ],
    ids=['one', 'some', 'without', 'both', 'predicate'],
)
def test_a_choice_of_sites(options, names):
    model, report = replaced(**options)
    assert [site.name for site in report.replaced] == names
    reasons = {site.reason for site in report.left if site.channels == 8 and site.name not in names}
    assert reasons & {'not in include', 'in exclude', 'the predicate returned False'}
    image, mask = inputs()
    assert model(image, mask).shape == (2, 6, 96, 192)


class Shared(nn.Module):
    """One nn.Upsample for two levels, alone and in a Sequential, and a block with weights that runs twice."""

    def __init__(self):
        super().__init__()
        self.up = nn.Upsample(scale_factor=2)
        self.chain = nn.Sequential(nn.Conv2d(8, 8, 1), self.up)
        self.reduce = nn.Conv2d(8, 4, 1)
        self.block = Block()

    def forward(self, x):
        return self.up(self.reduce(self.chain(x))), self.block(self.block(x))


def test_levels_have_upsamplers_of_their_own_and_shared_weights_share_one():
    model, x = Shared(), torch.randn(1, 8, 5, 7)
    report = replace_upsample(model, 'DySample', torch.randn(1, 8, 6, 4))
    assert [(site.name, site.channels) for site in report.replaced] == [('up:0', 8), ('up:1', 4), ('block:0', 8)]
    upsamplers = [*model.upsample_modules, *model.block.upsample_modules]
    for upsampler in upsamplers:
        nn.init.normal_(upsampler.offset.weight, std=0.3)
    first, second, shared = upsamplers
    left, right = model(x)
    torch.testing.assert_close(left, second(model.reduce(first(model.chain[0](x)))))
    torch.testing.assert_close(right, shared(model.block.conv(shared(model.block.conv(x)))))


def test_a_chain_that_is_a_model():
    shared = nn.Upsample(scale_factor=2)
    with pytest.raises(ValueError, match='the only module around it is Sequential'):
        replace_upsample(nn.Sequential(nn.Conv2d(8, 8, 1), shared, nn.Conv2d(8, 8, 1), shared), 'DySample', torch.randn(1, 8, 4, 4))
    model = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Upsample(scale_factor=2), nn.Conv2d(8, 4, 1), nn.Upsample(scale_factor=2))
    assert [site.name for site in replace_upsample(model, 'DySample', torch.randn(1, 8, 4, 4)).replaced] == ['1', '3']
    assert model(torch.randn(1, 8, 3, 5)).shape == (1, 4, 12, 20)


class Nested(nn.Module):
    """A module that upsamples, around one that upsamples alike."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)
        self.inner = nn.Upsample(scale_factor=2)

    def forward(self, x):
        return F.interpolate(self.inner(self.conv(x)), scale_factor=2, mode='bilinear')


@pytest.mark.parametrize(('cfg', 'reference'), [('bilinear', 'bilinear'), ('nearest', 'nearest')])
def test_an_inner_module_is_not_taken_for_the_outer(cfg, reference):
    """Nor is an upsampler that interpolates itself."""
    model, x = Nested(), torch.randn(1, 4, 5, 7)
    report = replace_upsample(model, cfg, x, exclude='inner')
    assert [site.upsampler for site in report.sites] == ['', f'{cfg} x2']
    torch.testing.assert_close(model(x), F.interpolate(F.interpolate(model.conv(x), scale_factor=2), scale_factor=2, mode=reference))
    report.undo()
    replace_upsample(model, cfg, x)
    torch.testing.assert_close(
        model(x), F.interpolate(F.interpolate(model.conv(x), scale_factor=2, mode=reference), scale_factor=2, mode=reference)
    )


class Pyramid(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, coarse, fine, twice=False):
        out = F.interpolate(self.conv(coarse), fine.shape[2:])
        return out + F.interpolate(coarse, fine.shape[2:]) if twice else out


def test_odd_sizes_are_cropped():
    model = Pyramid()
    report = replace_upsample(model, 'DySample', dict(coarse=torch.randn(1, 4, 7, 9), fine=torch.randn(1, 4, 13, 18)))
    assert report.sites[0].upsampler == 'DySample x2'
    coarse, fine = torch.randn(1, 4, 6, 5), torch.randn(1, 4, 12, 9)
    torch.testing.assert_close(model(coarse, fine), model.upsample_modules[0](model.conv(coarse))[:, :, :, :9])


def test_another_path_or_ratio_than_in_the_example_is_refused():
    model = Pyramid()
    replace_upsample(model, 'DySample', (torch.randn(1, 4, 4, 4), torch.randn(1, 4, 8, 8)))
    coarse = torch.randn(1, 4, 4, 4)
    with pytest.raises(ShapeError, match='at Pyramid:0, 4x4 cannot become 16x16 with x2'):
        model(coarse, torch.randn(1, 4, 16, 16))
    with pytest.raises(ShapeError, match=r'reached 1 of its sites .* and then upsampled 4 channels from \(4, 4\) to \(8, 8\)'):
        model(coarse, torch.randn(1, 4, 8, 8), twice=True)


@pytest.mark.parametrize(
    ('model', 'cfg', 'example', 'options', 'message'),
    [
        (nn.Conv2d(3, 4, 1), 'DySample', (1, 3, 8, 8), {}, 'Conv2d has no call that an upsampler can replace (it never calls'),
        (
            nn.Sequential(nn.ConvTranspose2d(3, 4, 2, 2)),
            'DySample',
            (1, 3, 8, 8),
            {},
            'and 0 (ConvTranspose2d) is left alone',
        ),
        (
            Nested(),
            nn.Upsample(scale_factor=2),
            (1, 4, 8, 8),
            {},
            'given as a name, a class or a config, got Upsample(',
        ),
        (Nested(), 'DySample', (1, 4, 8, 8), {'include': 3}, 'include must be a name of a site, or a list of them, got 3'),
        (Nested(), 'DySample', (1, 4, 8, 8), {'predicate': 'inner'}, "predicate must be a function of a Site, got 'inner'"),
        (torch.compile(Nested()), 'DySample', (1, 4, 8, 8), {}, 'call it before torch.compile, on the original module'),
        (Nested(), 'SAPA-B', (1, 4, 8, 8), {}, 'SAPA-B is guided: it needs a finer feature map'),
        (Nested(), 'DySimple', (1, 4, 8, 8), {}, "unknown upsampler 'DySimple' (did you mean 'DySample'"),
        (Nested(), dict(type='DySample', group=2), (1, 4, 8, 8), {}, "DySample takes no argument 'group' (did you mean 'groups'"),
        (
            Nested(),
            dict(type='DySample', groups=3),
            (1, 4, 8, 8),
            {},
            'has no call that an upsampler can replace (inner: in_channels must be divisible',
        ),
        (Nested(), dict(type='DySample', scale_factor=2), (1, 4, 8, 8), {}, 'upsample_cfg takes no scale_factor, got 2'),
        (Nested(), 'DySample', (1, 3, 8, 8), {}, 'or a dict of keyword arguments: RuntimeError: Given groups=1'),
        (Nested(), 'DySample', (1, 4, 8, 8), {'exclude': 'outer'}, "exclude: no site is called 'outer'; there are inner, Nested:0"),
        (Nested(), 'DySample', (1, 4, 8, 8), {'predicate': lambda site: False}, 'inner: the predicate returned False (class map?); Nes'),
        (nn.Upsample(scale_factor=2), 'DySample', (1, 4, 8, 8), {}, 'Upsample: not a feature map: no trained layer comes before it'),
        (
            nn.Sequential(nn.Conv1d(4, 4, 1), nn.Upsample(scale_factor=2)),
            'DySample',
            (1, 4, 8),
            {},
            'not a map (B, C, H, W), but has the shape (1, 4, 8)',
        ),
        (nn.Sequential(nn.Conv2d(4, 4, 1), nn.Upsample(size=(9, 12))), 'DySample', (1, 4, 8, 8), {}, '8x8 to 9x12 is not an integer ratio'),
    ],
    ids=lambda value: None if isinstance(value, (nn.Module, tuple)) else re.sub(r' at 0x\w+', '', str(value))[:40],
)
def test_wrong_use_is_one_sentence_and_changes_nothing(model, cfg, example, options, message):
    keys, kind = set(model.state_dict()), type(model)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        replace_upsample(model, cfg, torch.randn(*example), **options)
    assert message in str(caught.value)
    assert '\n' not in str(caught.value)
    assert set(model.state_dict()) == keys
    assert type(model) is kind


def test_a_second_time_is_refused():
    model, _ = replaced(include='bilinear')
    with pytest.raises(ValueError, match='replace_upsample has already changed this model: undo it first'):
        replace_upsample(model, 'DySample', inputs())


@pytest.mark.parametrize('size', [56, 84, 112, 224])
def test_a_ratio_that_is_no_integer_is_left_at_every_size(size):
    """Patches of 14 pixels, and a map of a quarter of the image: x3.5."""

    class Patches(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Conv2d(3, 8, 14, stride=14)
            self.out = nn.Conv2d(8, 8, 1)

        def forward(self, x):
            return self.out(F.interpolate(self.embed(x), size=(x.shape[2] // 4, x.shape[3] // 4)))

    with pytest.raises(ValueError, match='the ratio changes|not an integer|cannot'):
        replace_upsample(Patches(), 'DySample', torch.randn(1, 3, size, size))


class Aligned(nn.Module):
    """Two calls that keep the centres of the corners, as a keyword and by position, and one that does not."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, 8, 1) for channels in (3, 8, 8, 8))
        self.up = nn.Upsample(scale_factor=2, mode='bilinear', align_corners=True)

    def forward(self, image):
        x = self.convs[1](self.up(self.convs[0](image)))
        x = self.convs[2](F.interpolate(x, None, 4, 'bilinear', True))
        return self.convs[3](F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False))


def test_aligned_corners_are_told():
    with pytest.warns(UserWarning, match='align_corners=True') as caught:
        report = replace_upsample(Aligned(), 'bilinear', torch.randn(1, 3, 12, 18))
    named = [site.name for site in report.sites if site.align_corners]
    assert [site.was for site in report.sites] == ['bilinear, align_corners', 'bilinear, align_corners', 'bilinear']
    assert [str(warning.message).split(' interpolated')[0] for warning in caught] == [f'replace_upsample: {", ".join(named)}']
    assert [line.count('bilinear, align_corners') for line in str(report).splitlines()] == [0, 0, 1, 1, 0]


@pytest.mark.parametrize(('ratio', 'moved'), [(2, 0.25), (4, 0.375)])
def test_features_move_by_what_the_docs_say(ratio, moved):
    """The values are the positions of the pixels, so the difference is the distance. The first and last row cannot move out."""
    rows = torch.arange(40.0)[None, None, :, None].expand(1, 1, 40, 5)
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Upsample(scale_factor=ratio, mode='bilinear', align_corners=True))
    nn.init.ones_(model[0].weight)
    nn.init.zeros_(model[0].bias)
    before = model(rows)
    with pytest.warns(UserWarning, match='align_corners'):
        replace_upsample(model, 'bilinear', torch.randn(1, 1, 40, 6))
    inner = slice(ratio // 2, -(ratio // 2))
    distance = (model(rows) - before)[0, 0, inner].abs()
    assert moved - 0.03 < distance.max() <= moved
