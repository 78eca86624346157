import pytest
import torch
import torch.nn.functional as F
from conftest import assert_parity, golden_cases
from upsampler_tests import UpsamplerTests

from mmdysample.upsamplers import FRFU


class TestFRFU(UpsamplerTests):
    name = 'FRFU'
    reach_of_a_pixel = None  # with random weights, points lie anywhere


@pytest.mark.parametrize(('case', 'golden'), golden_cases('golden_frfu.npz'))
def test_parity_with_the_authors_implementation(case, golden):
    module = FRFU(case['channels'], case['scale_factor'], **case['kwargs'])
    assert sum(p.numel() for p in module.parameters()) == case['parameters']
    assert_parity(module, golden)


def test_parameters():
    assert sum(p.numel() for p in FRFU(256).parameters()) == 21_074


def still(box_start, sample_k=3):
    """A module whose random weights are zero."""
    module = FRFU(16, box_start=box_start, sample_k=sample_k)
    for layer in (module.offset, module.sample_kernel):
        torch.nn.init.zeros_(layer.weight)
    return module


def test_the_start_of_the_authors_fades_at_the_border():
    y = still(box_start=True)(torch.ones(1, 16, 4, 5))[0, 0]
    torch.testing.assert_close([y[0, 0], y[0, 4], y[3, 4]], [torch.tensor(v) for v in (4 / 9, 6 / 9, 1.0)])


@pytest.mark.parametrize('sample_k', [1, 3, 5])
def test_ours_starts_close_to_bilinear_interpolation(sample_k):
    x = torch.randn(1, 16, 6, 7)
    bilinear = F.interpolate(x, scale_factor=2, mode='bilinear')
    smooth = F.avg_pool2d(bilinear, sample_k, 1, sample_k // 2)
    share = 0.9 if sample_k > 1 else 1
    area = sample_k**2
    expected = bilinear * (share - (1 - share) / max(area - 1, 1)) + smooth * area * (1 - share) / max(area - 1, 1)
    torch.testing.assert_close(still(box_start=False, sample_k=sample_k)(x), expected, rtol=1e-4, atol=1e-5)


def test_large_maps_keep_their_points_in_half_precision():
    """The authors' code caches coordinates in the dtype of its first map; bfloat16 has no half pixels above 128."""
    module = still(box_start=False)
    x = torch.rand(1, 16, 1, 300)
    module.bfloat16()(x.bfloat16())
    expected = still(box_start=False).double()(x.double())
    torch.testing.assert_close(module.float()(x).double(), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(module.bfloat16()(x.bfloat16()).double(), expected, rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'groups': 3}, 'in_channels must be divisible by groups, got in_channels=16, groups=3'),
        ({'sample_k': 2}, 'sample_k must be odd, got 2'),
        ({'box_start': 1}, 'box_start must be True or False, got 1'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        FRFU(16, **arguments)
