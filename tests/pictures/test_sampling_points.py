import pytest
import torch
from torch import nn

from mmdysample import DySample
from mmdysample.pictures.sampling_points import sampling_points


def coordinates(height, width):
    """A map whose channels say where they are: x, y, x, y, ..., so that what is sampled from it is the place of the sample."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing='ij')
    return torch.stack((x, y) * 4)[None]


@pytest.mark.parametrize('style', ['lp', 'pl'])
@pytest.mark.parametrize('scale_factor', [2, 3])
def test_the_points_are_where_the_module_samples(style, scale_factor):
    channels = 8 if scale_factor == 2 else 36
    module = DySample(channels, scale_factor, style=style, groups=2, dyscope=True)
    for conv in (module.offset, module.scope):
        nn.init.normal_(conv.weight, std=0.05)
    x = coordinates(7, 9).repeat(1, 5, 1, 1)[:, :channels]
    x = x[:, :channels]
    points = sampling_points(module, x)
    with torch.no_grad():
        out = module(x)[0].view(2, channels // 2, 7 * scale_factor, 9 * scale_factor)[:, :2].permute(0, 2, 3, 1)
    # Beyond the outermost centres, a sample is that of the border.
    low, high = torch.tensor([0.5, 0.5]), torch.tensor([8.5, 6.5])
    expected = torch.minimum(torch.maximum(torch.from_numpy(points.end), low), high)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-4)
    assert points.distance.max() > 0.05


@pytest.mark.parametrize('init_position', ['bilinear', 'nearest'])
def test_a_bias_moves_the_points_by_a_known_amount(init_position):
    module = DySample(8, groups=2, init_position=init_position)
    nn.init.zeros_(module.offset.weight)
    # Channels are ordered as (x | y, group, row, column): group 1 looks 0.25 * 2 pixels to the right.
    module.offset.bias.data.view(2, 2, 2, 2)[0, 1] = 2.0
    points = sampling_points(module, torch.randn(1, 8, 3, 5))
    for row in range(6):
        for column in range(10):
            assert points.start[row, column].tolist() == [(column + 0.5) / 2, (row + 0.5) / 2]
            x, y = (column // 2 + 0.5, row // 2 + 0.5) if init_position == 'nearest' else points.start[row, column]
            assert points.end[0, row, column].tolist() == [x, y]
            assert points.end[1, row, column].tolist() == [x + 0.5, y]
    assert (points.scope == 0.25).all()


def test_a_dynamic_scope_is_that_of_each_output_pixel():
    module = DySample(8, groups=2, dyscope=True)
    nn.init.zeros_(module.scope.weight)
    x = torch.rand(1, 8, 3, 5) + 0.5
    # The scope of the lower right point of every pixel follows channel 3; the others stay at their start.
    module.scope.weight.data.view(2, 2, 2, 2, 8)[:, :, 1, 1, 3] = 4.0
    scope = sampling_points(module, x).scope
    assert scope.shape == (6, 10)
    for row in range(6):
        for column in range(10):
            expected = 0.25
            if row % 2 and column % 2:
                expected = 0.5 / (1 + torch.exp(-4 * x[0, 3, row // 2, column // 2]).item())
            assert scope[row, column] == pytest.approx(expected, abs=1e-6)
