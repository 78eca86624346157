"""Sizes that a model rounds, and examples so small that they decide nothing."""

import pytest
import torch
import torch.nn.functional as F
from interpolating import dysamples
from torch import nn

from mmdysample import replace_upsample
from mmdysample.upsamplers.base import ShapeError

DOWN = {
    'max pooling': lambda c: nn.MaxPool2d(2),
    'max pooling, ceil': lambda c: nn.MaxPool2d(2, ceil_mode=True),
    '2x2 convolution': lambda c: nn.Conv2d(c, c, 2, stride=2),
    '3x3 convolution': lambda c: nn.Conv2d(c, c, 3, stride=2),
    'padded convolution': lambda c: nn.Conv2d(c, c, 3, stride=2, padding=1),
}


class UNet(nn.Module):
    """Four levels; each is upsampled to the size of the skip connection."""

    def __init__(self, down='max pooling', channels=4):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 1)
        self.down = nn.ModuleList([DOWN[down](channels) for _ in range(3)])
        self.fuse = nn.ModuleList([nn.Conv2d(2 * channels, channels, 1) for _ in range(3)])

    def forward(self, image):
        skips = [self.stem(image)]
        for down in self.down:
            skips.append(down(skips[-1]))
        x = skips.pop()
        for i, fuse in enumerate(self.fuse):
            skip = skips.pop()
            x = fuse(torch.cat([self.up(i, x, skip), skip], 1))
        return x

    def up(self, i, x, skip):
        return F.interpolate(x, size=skip.shape[2:], mode='bilinear')


class WrittenOut(UNet):
    """The same with the given upsamplers: extend the map by its border, upsample, crop."""

    upsamplers = ()

    def up(self, i, x, skip):
        height, width = skip.shape[2:]
        rows, columns = -(-height // 2), -(-width // 2)
        x = x[:, :, torch.arange(rows).clamp(max=x.shape[2] - 1)][:, :, :, torch.arange(columns).clamp(max=x.shape[3] - 1)]
        return self.upsamplers[i](x)[:, :, :height, :width]


@pytest.mark.parametrize('example', [(64, 96), (65, 99), (33, 67), (16, 16)], ids=str)
@pytest.mark.parametrize('down', DOWN)
def test_a_unet_takes_every_size(down, example):
    model = UNet(down)
    report = replace_upsample(model, 'DySample', torch.randn(1, 3, *example))
    assert [site.upsampler for site in report.sites] == ['DySample x2'] * 3
    reference = WrittenOut(down)
    reference.load_state_dict(model.state_dict(), strict=False)
    reference.upsamplers = dysamples(model)
    for upsampler in reference.upsamplers:
        nn.init.normal_(upsampler.offset.weight, std=0.3)
    with torch.no_grad():
        for size in range(33, 68):
            image = torch.randn(1, 3, size, 100 - size)
            out = model(image)
            assert out.shape == image[:, :1].expand(-1, 4, -1, -1).shape
            torch.testing.assert_close(out, reference(image))


class Pool(nn.Module):
    """What pyramid pooling does: a map pooled to a fixed size, enlarged to the size of its source."""

    def __init__(self, bins, stride=8):
        super().__init__()
        self.stem, self.conv, self.bins = nn.Conv2d(3, 8, 3, stride, 1), nn.Conv2d(8, 8, 1), bins

    def forward(self, image):
        x = self.stem(image)
        return self.conv(x + F.interpolate(self.conv(F.adaptive_avg_pool2d(x, self.bins)), x.shape[2:], mode='bilinear'))


@pytest.mark.parametrize('bins', [1, 2, 3, 6])
@pytest.mark.parametrize('size', [8, 16, 24, 32, 40, 48, 56, 96])
def test_a_map_pooled_to_a_fixed_size_is_left_whatever_the_example(bins, size):
    with pytest.raises(ValueError, match=r'\(Pool:0: .*(ratio|the size does not change|downsampling|single row)'):
        replace_upsample(Pool(bins), 'DySample', torch.randn(1, 3, size, size))


def chain(*layers):
    return nn.Sequential(*layers, nn.Conv2d(8, 8, 1))


@pytest.mark.parametrize(('size', 'upsamplers'), [(32, ['DySample x2'] * 2), (33, ['DySample x2'] * 2), (64, ['DySample x2'] * 2)])
def test_a_small_example_is_judged_by_the_run_at_twice_its_size(size, upsamplers):
    """1x1 to 2x2 for 32 pixels."""
    model = chain(
        nn.Conv2d(3, 8, 3, 4, 1), nn.Conv2d(8, 8, 3, 8, 1), nn.Upsample(scale_factor=2), nn.Conv2d(8, 8, 1), nn.Upsample(scale_factor=2)
    )
    report = replace_upsample(model, 'DySample', torch.zeros(1, 3, size, size))
    assert [site.upsampler or site.reason for site in report.sites] == upsamplers


class To(nn.Module):
    """Stride s, and back to the size of the image."""

    def __init__(self, stride, kernel, padding=0):
        super().__init__()
        self.down, self.out = nn.Conv2d(3, 8, kernel, stride, padding), nn.Conv2d(8, 8, 1)

    def forward(self, image):
        return self.out(F.interpolate(self.down(image), image.shape[2:]))


@pytest.mark.parametrize(
    ('stride', 'kernel', 'padding', 'size', 'name'),
    [
        (2, 2, 0, 3, 'DySample x2'),  # 1 of 3, which could be x3
        (4, 4, 0, 7, 'DySample x2 x2'),
        (4, 4, 0, 15, 'DySample x2 x2'),  # 3 of 15, which could be x5
        (4, 3, 1, 9, 'DySample x2 x2'),  # 3 of 9
        (4, 4, 0, 67, 'DySample x2 x2'),
        (8, 8, 0, 63, 'DySample x2 x2 x2'),
        (2, 3, 0, 66, 'DySample x2'),
        (3, 3, 0, 27, 'DySample x3'),
    ],
)
def test_the_ratio_behind_a_rounded_size(stride, kernel, padding, size, name):
    model = To(stride, kernel, padding)
    report = replace_upsample(model, 'DySample', torch.randn(1, 3, size, size))
    assert [site.upsampler for site in report.sites] == [name]
    for other in range(33, 68):
        assert model(torch.randn(1, 3, other, size)).shape == (1, 8, other, size)


@pytest.mark.parametrize('factor', [1.5, 1.9, 2.1, 2.2, (2, 2.1)])
@pytest.mark.parametrize('size', [3, 8, 9, 40])
def test_a_ratio_that_is_no_integer_is_left(factor, size):
    model = chain(nn.Conv2d(3, 8, 1), nn.Upsample(scale_factor=factor))
    with pytest.raises(ValueError, match=r'not an integer( ratio)?\)$'):
        replace_upsample(model, 'DySample', torch.randn(1, 3, size, size))


@pytest.mark.parametrize('fixed', [False, True], ids=['any size', 'one size'])
def test_a_block_that_runs_at_several_small_sizes(fixed):
    class Up(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 1)

        def forward(self, x):
            return self.conv(F.interpolate(self.conv(x), scale_factor=2))

    class Stem(nn.Conv2d):
        def forward(self, image):
            assert not fixed or image.shape[2] == 16
            return super().forward(image)

    up = Up()
    model = nn.Sequential(Stem(3, 8, 16, 16), up, up, up)
    report = replace_upsample(model, 'DySample', torch.randn(1, 3, 16, 16))  # 1x1, 2x2 and 4x4
    assert [site.upsampler for site in report.sites] == ['DySample x2']
    assert model(torch.randn(1, 3, 16, 48)).shape == (1, 8, 8, 24)


class Given(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, coarse, fine):
        return self.conv(fine + F.interpolate(self.conv(coarse), fine.shape[2:]))


@pytest.mark.parametrize('have', [(5, 7), (6, 4)])
@pytest.mark.parametrize('more', [-1, 0, 1, 2])
def test_maps_that_are_given(have, more):
    model = Given()
    coarse, fine = torch.randn(1, 4, *have), torch.randn(1, 4, 2 * have[0], 2 * have[1] + more)
    replace_upsample(model, 'DySample', (coarse, fine))
    assert model(coarse, fine).shape == fine.shape


@pytest.mark.parametrize('target', [(70, 70), (62, 64), (48, 48), (32, 32)], ids=str)
def test_a_later_size_that_does_not_fit_is_named(target):
    model = Given()
    replace_upsample(model, 'DySample', (torch.randn(1, 4, 8, 8), torch.randn(1, 4, 16, 16)))
    with pytest.raises(ShapeError) as caught:
        model(torch.randn(1, 4, 32, 32), torch.randn(1, 4, *target))
    assert str(caught.value).startswith(f'replace_upsample: at Given:0, 32x32 cannot become {target[0]}x{target[1]} with x2: it can become')
    assert 'Give the model another input size, or exclude the site' in str(caught.value)


def test_a_file_exported_at_an_even_size_takes_odd_ones(tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    model, image = UNet().eval(), torch.randn(1, 3, 64, 48)
    replace_upsample(model, 'DySample', image)
    path = tmp_path / 'unet.onnx'
    axes = {'x': {2: 'height', 3: 'width'}}
    torch.onnx.export(model, (image,), path, opset_version=16, input_names=['x'], dynamic_axes=axes, dynamo=False)
    session = onnxruntime.InferenceSession(path)
    for size in ((64, 48), (33, 67), (55, 41)):
        image = torch.randn(1, 3, *size)
        (got,) = session.run(None, {'x': image.numpy()})
        torch.testing.assert_close(torch.from_numpy(got), model(image).detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('dynamic', [False, True])
def test_odd_sizes_compile(dynamic):
    torch.compiler.reset()
    model = UNet()
    replace_upsample(model, 'DySample', torch.randn(1, 3, 64, 48))
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager', dynamic=dynamic)
    for size in ((64, 48), (33, 67), (55, 41)):
        image = torch.randn(1, 3, *size)
        torch.testing.assert_close(compiled(image), model(image), rtol=1e-4, atol=1e-4)
    torch.compiler.reset()
