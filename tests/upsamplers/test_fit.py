"""Sizes that the ratio of an upsampler does not give exactly, because a model rounded them when it shrank a map."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmdysample import build_upsampler
from mmdysample.upsamplers import fit
from mmdysample.upsamplers.base import ShapeError
from mmdysample.upsamplers.fit import fits, upsample_as, upsample_to

CUBIC = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
ROUNDED_DOWN = {  # how models shrink a picture, the ratio, and the mean errors of extension and resizing
    '2x2 average': (lambda x: F.avg_pool2d(x, 2), 2, (0.0070, 0.0260)),
    '4x4 average': (lambda x: F.avg_pool2d(x, 4), 4, (0.0251, 0.0528)),
    '2x2 maximum': (lambda x: F.max_pool2d(x, 2), 2, (0.0259, 0.0268)),
    '3x3 weighted average, no padding': (lambda x: F.conv2d(x, torch.outer(CUBIC, CUBIC)[None, None] / 16, stride=2), 2, (0.0248, 0.0208)),
}


def picture(size):
    """A smooth picture: the mean of eight waves of at least 25 pixels, sampled at the centres of the pixels."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.arange(size).double()[:, None], torch.arange(size).double()
    waves = torch.rand(8, 3, generator=generator, dtype=torch.float64) * torch.tensor([0.25, 0.25, 6.28])
    return sum(torch.sin(a * y + b * x + phase) for a, b, phase in waves.tolist())[None, None] / 8


@pytest.mark.parametrize('name', ROUNDED_DOWN)
def test_extension_keeps_features_aligned(name):
    """The figures in the docstring of upsample_to, and that the extension is the better rule wherever the map itself is aligned."""
    shrink, ratio, figures = ROUNDED_DOWN[name]
    upsample, errors = nn.Upsample(scale_factor=ratio, mode='bilinear'), []
    for size in range(33, 68):
        fine = picture(size)
        coarse = shrink(fine)
        if coarse.shape[2] * ratio < size:
            extended = upsample_to(upsample, coarse, fine.shape[2:], ratio)
            resized = F.interpolate(upsample(coarse), fine.shape[2:], mode='bilinear')
            errors.append([(out - fine).abs().mean() for out in (extended, resized)])
    extension, resizing = torch.tensor(errors).mean(0).tolist()
    assert (extension, resizing) == pytest.approx(figures, abs=6e-5)
    assert (extension < resizing) == ('3x3' not in name)


@pytest.mark.parametrize('mode', ['max', 'padded'])
def test_every_pixel_stays_where_it_is_for_an_even_size(mode):
    """Away from the border, an odd picture gives what the even picture around it gives."""
    shrink = (lambda x: F.max_pool2d(x, 2)) if mode == 'max' else (lambda x: F.max_pool2d(x, 2, ceil_mode=True))
    fine = picture(66)
    upsample = nn.Upsample(scale_factor=2, mode='bilinear')
    even, odd = (upsample_to(upsample, shrink(x), x.shape[2:], 2) for x in (fine, fine[:, :, :65, :65]))
    torch.testing.assert_close(odd[:, :, :62, :62], even[:, :, :62, :62])


def written_out(upsampler, x, size, guide):
    """Pixel by pixel: repeat the last row and column of the map while the output is too small, then leave out what is too much."""
    ratio = int(upsampler.scale_factor) if hasattr(upsampler, 'scale_factor') else 2
    while ratio * x.shape[2] < size[0]:
        x = torch.cat([x, x[:, :, -1:]], 2)
    while ratio * x.shape[3] < size[1]:
        x = torch.cat([x, x[:, :, :, -1:]], 3)
    if not getattr(upsampler, 'guided', False):
        return upsampler(x)[:, :, : size[0], : size[1]]
    while guide.shape[2] < ratio * x.shape[2]:
        guide = torch.cat([guide, guide[:, :, -1:]], 2)
    while guide.shape[3] < ratio * x.shape[3]:
        guide = torch.cat([guide, guide[:, :, :, -1:]], 3)
    return upsampler(x, guide)[:, :, : size[0], : size[1]]


@pytest.mark.parametrize('size', [(9, 14), (10, 15), (11, 16), (12, 13)], ids=str)
@pytest.mark.parametrize('name', ['nearest', 'deconv', 'DySample', 'DySample-S+', 'CARAFE', 'FADE', 'SAPA-B', 'IndexNet', 'A2U'])
def test_it_computes_what_is_written_out(name, size):
    torch.manual_seed(0)
    upsampler = build_upsampler(name, 32).double().eval()
    for p in upsampler.parameters():
        nn.init.normal_(p, std=0.2)
    x, finer = torch.randn(2, 32, 5, 7, dtype=torch.float64), torch.randn(2, 32, *size, dtype=torch.float64)
    results = []
    for function in (upsample_as, lambda up, x, finer: written_out(up, x, finer.shape[2:], finer)):
        leaf = x.clone().requires_grad_()
        out = function(upsampler, leaf, finer)
        out.square().sum().backward()
        results.append((out.detach(), leaf.grad))
    assert results[0][0].shape == (2, 32, *size)
    for ours, expected in zip(*results):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize('name', ['DySample', 'FADE'])
def test_an_exact_size_is_not_copied(name, monkeypatch):
    upsampler, x, finer = build_upsampler(name, 16), torch.randn(1, 16, 5, 7), torch.randn(1, 16, 10, 14)
    expected = upsampler(x, finer) if upsampler.guided else upsampler(x)
    monkeypatch.setattr(fit, 'extend', None)
    made, seen = [], []
    upsampler.register_forward_pre_hook(lambda module, given: seen.extend(given))
    upsampler.register_forward_hook(lambda module, given, out: made.append(out))
    out = upsample_as(upsampler, x, finer)
    torch.testing.assert_close(out, expected)
    assert out.data_ptr() == made[0].data_ptr()
    assert all(a is b for a, b in zip(seen, (x, finer)))


@pytest.mark.parametrize(
    ('ratio', 'have', 'want', 'accepted'),
    [
        (2, 32, 62, False), (2, 32, 63, True), (2, 32, 64, True), (2, 32, 65, True), (2, 32, 66, True), (2, 32, 67, False),
        (4, 16, 60, False), (4, 16, 61, True), (4, 16, 67, True), (4, 16, 68, True), (4, 16, 69, False),
        (3, 5, 12, False), (3, 5, 13, True), (2, 1, 1, True), (2, 1, 3, True), (2, 1, 5, False),
    ],
)  # fmt: skip
def test_the_sizes_that_are_accepted(ratio, have, want, accepted):
    assert fits(ratio, (have, 8), (want, ratio * 8)) == accepted
    upsample, x = nn.Upsample(scale_factor=ratio), torch.randn(1, 1, have, 8)
    if accepted:
        assert upsample_to(upsample, x, (want, 8 * ratio), ratio).shape == (1, 1, want, 8 * ratio)
    else:
        with pytest.raises(ShapeError, match=f'{have}x8 cannot become {want}x{8 * ratio} with x{ratio}: it can become'):
            upsample_to(upsample, x, (want, 8 * ratio), ratio)


def test_the_message_says_what_is_accepted():
    with pytest.raises(ShapeError) as caught:
        upsample_as(build_upsampler('nearest', 4), torch.zeros(1, 4, 32, 32), torch.zeros(1, 4, 70, 70))
    assert str(caught.value) == (
        '32x32 cannot become 70x70 with x2: it can become 64x64, and each side may be up to 1 pixel shorter or 2 pixels longer'
    )


def test_an_upsampler_of_another_ratio():
    with pytest.raises(ShapeError, match='the upsampler must enlarge a map by 2, but made 20x28 of 5x7'):
        upsample_as(nn.Upsample(scale_factor=4), torch.zeros(1, 4, 5, 7), torch.zeros(1, 4, 10, 14))


class Step(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.upsampler = build_upsampler(name, 8)

    def forward(self, x, finer):
        return finer + upsample_as(self.upsampler, x, finer)


SIZES = [((5, 7), (10, 14)), ((6, 5), (11, 11)), ((5, 8), (11, 15)), ((4, 4), (10, 9))]  # exact, and rounded in both directions


def step_and_maps(name):
    torch.manual_seed(0)
    model = Step(name).eval()
    for p in model.parameters():
        nn.init.normal_(p, std=0.2)
    return model, [(torch.randn(1, 8, *have), torch.randn(1, 8, *want)) for have, want in SIZES]


@pytest.mark.parametrize('name', ['DySample', 'FADE'])
def test_a_file_that_was_exported_at_an_even_size_takes_every_size(name, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    model, maps = step_and_maps(name)
    axes = {'x': {2: 'h', 3: 'w'}, 'finer': {2: 'H', 3: 'W'}}
    path = tmp_path / 'step.onnx'
    with torch.no_grad():
        torch.onnx.export(model, maps[0], path, opset_version=16, input_names=[*axes], dynamic_axes=axes, dynamo=False)
        traced = torch.jit.trace(model, maps[0], check_trace=False)
        session = onnxruntime.InferenceSession(path)
        for x, finer in maps:
            expected = model(x, finer)
            torch.testing.assert_close(traced(x, finer), expected, rtol=1e-4, atol=1e-4)
            (got,) = session.run(None, {'x': x.numpy(), 'finer': finer.numpy()})
            torch.testing.assert_close(torch.from_numpy(got), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('dynamic', [False, True])
@pytest.mark.parametrize('name', ['DySample', 'FADE'])
def test_every_size_compiles(name, dynamic):
    torch.compiler.reset()
    model, maps = step_and_maps(name)
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager', dynamic=dynamic)
    for x, finer in maps:
        torch.testing.assert_close(compiled(x, finer), model(x, finer), rtol=1e-4, atol=1e-4)
    torch.compiler.reset()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_and_empty_batches(dtype):
    for x, finer in step_and_maps('nearest')[1]:
        model = Step('nearest')
        assert model(x.to(dtype), finer.to(dtype)).dtype == dtype
        assert model(x[:0], finer[:0]).shape == finer[:0].shape
