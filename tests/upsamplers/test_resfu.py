import pytest
import torch
import torch.nn.functional as F
from conftest import assert_parity, golden_cases
from upsampler_tests import UpsamplerTests

from mmdysample.functional.similarity_scores import attend_to_taps, guided_filter
from mmdysample.upsamplers import ReSFU


class TestReSFU(UpsamplerTests):
    name = 'ReSFU'
    reach_of_a_pixel = None  # the norms spread it over the map


@pytest.mark.parametrize(('case', 'golden'), golden_cases('golden_resfu.npz'))
def test_parity_with_the_authors_implementation(case, golden):
    module = ReSFU(case['channels'], case['guide_channels'], case['scale_factor'], **case['kwargs'])
    assert sum(p.numel() for p in module.parameters()) == case['parameters']
    assert_parity(module, golden, without_gradient=case['zero_grad'])


def test_the_number_of_parameters_does_not_depend_on_the_ratio():
    assert {sum(p.numel() for p in ReSFU(256, scale_factor=s).parameters()) for s in (2, 4, 8)} == {47_570}


@pytest.mark.parametrize('s', [2, 3, 4])
@pytest.mark.parametrize(('height', 'width'), [(1, 1), (1, 6), (5, 4)])
def test_taps_of_the_upsampled_map(s, height, width):
    """Against the definition: taps of a map that is interpolated first."""
    x = torch.randn(2, 3, height, width).double()
    scores = torch.randn(2, 9, s * height, s * width).double()
    fine = F.interpolate(x, scale_factor=s, mode='bilinear')
    expected = torch.zeros_like(fine)
    for i in range(s * height):
        for j in range(s * width):
            places = [(n, i + s * (n // 3 - 1), j + s * (n % 3 - 1)) for n in range(9)]
            inside = [place for place in places if 0 <= place[1] < s * height and 0 <= place[2] < s * width]
            weight = scores[:, [n for n, _, _ in inside], i, j].softmax(1)
            expected[:, :, i, j] = sum(weight[:, m, None] * fine[:, :, a, b] for m, (_, a, b) in enumerate(inside))
    torch.testing.assert_close(attend_to_taps(x, scores, s), expected)


@pytest.mark.parametrize('step', [1, 2, 3])
def test_guided_filter(step):
    """Against a linear regression in each window."""
    guide, x = torch.randn(2, 1, 1, 7, 8).double()
    eps, radius = 1e-3, 1
    q, k = (t[0, 0, ::step, ::step][: 7 // step, : 8 // step] for t in (guide, x))
    fits = torch.zeros(2, *q.shape).double()
    for i in range(q.shape[0]):
        for j in range(q.shape[1]):
            a, b = (t[max(i - radius, 0) : i + radius + 1, max(j - radius, 0) : j + radius + 1] for t in (q, k))
            slope = ((a * b).mean() - a.mean() * b.mean()) / (a.var(correction=0) + eps)
            fits[:, i, j] = torch.stack((slope, b.mean() - slope * a.mean()))
    means = torch.stack(
        [fits[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].mean((1, 2)) for i in range(q.shape[0]) for j in range(q.shape[1])], dim=1
    ).view(1, 2, *q.shape)
    slope, intercept = F.interpolate(means, size=(7, 8), mode='bilinear')[0]
    torch.testing.assert_close(guided_filter(guide, x, radius, eps, step)[0, 0], slope * guide[0, 0] + intercept)


def test_a_guide_of_other_channels_and_small_numbers():
    assert ReSFU(24, guide_channels=16, scale_factor=4)(torch.randn(1, 24, 3, 4), torch.randn(1, 16, 12, 16)).shape == (1, 24, 12, 16)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'in_channels': 48}, 'in_channels must be divisible by 32 or smaller, got 48'),
        ({'in_channels': 32, 'guide_channels': 40}, 'guide_channels must be divisible by 32 or smaller, got 40'),
        ({'in_channels': 32, 'embedding_dim': 20}, 'embedding_dim and 128 must be divisible by groups and by gn_dim, got embedding_dim=20'),
        ({'in_channels': 32, 'eps': 0}, 'eps must be a positive number, got 0'),
        ({'in_channels': 32, 'radius': 2.5}, r'radius must be a positive integer, got 2\.5'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ReSFU(**arguments)
