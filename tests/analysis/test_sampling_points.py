import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from mmdysample import DySample
from mmdysample.analysis.sampling_points import draw_sampling_points, record_inputs, sampling_points


def test_points_start_on_the_output_grid_and_end_where_offsets_say():
    module = DySample(8, scale_factor=2, groups=2)
    nn.init.zeros_(module.offset.weight)
    # Channels are ordered as (x | y, group, row, column): group 1 looks 0.25 * 2 pixels to the right.
    module.offset.bias.data.view(2, 2, 2, 2)[0, 1] = 2.0
    points = sampling_points('m', module, torch.randn(1, 8, 3, 5))
    columns, rows = np.meshgrid((np.arange(10) + 0.5) / 2, (np.arange(6) + 0.5) / 2)
    assert np.allclose(points.start, np.stack((columns, rows), -1))
    assert np.allclose(points.end[0], points.start)
    assert np.allclose(points.end[1] - points.start, (0.5, 0.0))


def test_the_first_input_of_every_dysample_is_kept():
    model = nn.Sequential(DySample(8), nn.ReLU(), DySample(8))
    seen = record_inputs(model)
    first = torch.randn(2, 8, 3, 5)
    model(first)
    model(torch.randn(1, 8, 4, 4))
    assert {name: tuple(x.shape) for name, x in seen.items()} == {'0': (1, 8, 3, 5), '2': (1, 8, 6, 10)}
    assert torch.equal(seen['0'], first[:1])


@pytest.mark.parametrize('centre', [(0.0, 0.0), (40.0, 24.0), (1000.0, -5.0)])
def test_what_is_drawn_stays_within_the_image(centre):
    """A map of 3x5 over a 24x40 input, of which 20x33 is image and the rest is padding."""
    points = sampling_points('m', DySample(8), torch.randn(1, 8, 3, 5))
    ax = Figure().add_subplot()
    draw_sampling_points(ax, np.zeros((20, 33, 3), np.uint8), points, centre, padded=(24, 40), window=2)
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert right - left == bottom - top == pytest.approx(16)  # 2 pixels of stride 8
    assert 0 <= left < right <= 33
    assert 0 <= top < bottom <= 20
