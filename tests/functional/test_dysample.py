import pytest
import torch
import torch.nn.functional as F
from reference import dysample_loop

from mmdysample.functional import dysample, initial_position


def inputs(shape=(2, 6, 3, 5), s=2, g=3, spread=1.5, dtype=torch.float64):
    b, _, h, w = shape
    x = torch.randn(shape, dtype=torch.float64).to(dtype)
    return x, torch.randn(b, 2 * g * s * s, h, w, dtype=torch.float64).to(dtype) * spread


@pytest.mark.parametrize(
    ('shape', 's', 'g'),
    [((2, 6, 3, 5), 2, 3), ((1, 4, 5, 2), 3, 2), ((1, 3, 1, 4), 4, 1), ((1, 2, 1, 1), 2, 2), ((1, 4, 3, 2), 1, 4)],
)
def test_equals_the_slow_loop(shape, s, g):
    x, offset = inputs(shape, s, g)
    torch.testing.assert_close(dysample(x, offset, s, g), dysample_loop(x, offset, s, g))


@pytest.mark.parametrize('s', [1, 2, 3, 4])
@pytest.mark.parametrize('size', [(5, 7), (8, 3), (1, 6)])
def test_initial_positions_are_bilinear_interpolation(s, size):
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    offset = initial_position(s, groups=2).double().expand(2, -1, *size)
    expected = F.interpolate(x, scale_factor=s, mode='bilinear', align_corners=False)
    torch.testing.assert_close(dysample(x, offset, s, 2), expected, rtol=0, atol=1e-6)


def test_x_comes_before_y():
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    offset = torch.tensor((1.0, 0.0)).reshape(1, 2, 1, 1).expand(1, 2, 3, 4)
    expected = torch.tensor([[1.0, 2, 3, 3], [5, 6, 7, 7], [9, 10, 11, 11]])
    torch.testing.assert_close(dysample(x, offset, 1)[0, 0], expected)


def test_gradcheck():
    x, offset = inputs((2, 4, 3, 2), s=2, g=2, spread=0.3)
    torch.autograd.gradcheck(lambda a, b: dysample(a, b, 2, 2), (x.requires_grad_(), offset.requires_grad_()))


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float16, 2e-3), (torch.bfloat16, 1.6e-2), (torch.float32, 2e-5)])
def test_coordinates_are_exact_on_wide_maps(dtype, tolerance):
    """A float16 coordinate near column 200 would be off by up to 1/16 pixel; on this ramp that is an error of 0.06."""
    x = (torch.arange(200.0) % 2).expand(1, 2, 3, 200).to(dtype)
    offset = torch.rand(1, 8, 3, 200) - 0.5
    got = dysample(x, offset, 2)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), dysample(x.double(), offset.double(), 2), rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    'make', [lambda x: x.contiguous(memory_format=torch.channels_last), lambda x: x.mT.contiguous().mT, lambda x: x[:, ::2]]
)
def test_any_memory_layout(make):
    x, offset = inputs((2, 12, 3, 5), g=3)
    x = make(x)
    offset = make(torch.cat((offset, offset), 1))[:, : 2 * 3 * 4]
    torch.testing.assert_close(dysample(x, offset, 2, 3), dysample(x.contiguous(), offset.contiguous(), 2, 3))


def test_empty_batch():
    x, offset = inputs((0, 6, 3, 5))
    x.requires_grad_()
    out = dysample(x, offset, 2, 3)
    out.sum().backward()
    assert out.shape == (0, 6, 6, 10)
    assert x.grad.shape == x.shape


@pytest.mark.parametrize(
    ('channels', 'offsets', 'message'),
    [
        (5, 24, r'channels must be divisible by groups, got channels=5, groups=3'),
        (6, 12, r'offset must have the shape .* = \(1, 24, 3, 5\), got \(1, 12, 3, 5\)'),
    ],
)
def test_wrong_shapes(channels, offsets, message):
    with pytest.raises(ValueError, match=message):
        dysample(torch.zeros(1, channels, 3, 5), torch.zeros(1, offsets, 3, 5), 2, 3)
