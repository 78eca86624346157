import pytest
import torch
from conftest import assert_parity, golden_cases
from upsampler_tests import UpsamplerTests

from mmdysample.upsamplers import FreqFusion


class TestFreqFusion(UpsamplerTests):
    name = 'FreqFusion'
    reach_of_a_pixel = None  # the norms of the offset generator spread it over the map


def module_of(case):
    arguments = {'feature_resample': False, **case['kwargs']}
    return FreqFusion(case['channels'], case['guide_channels'], **arguments)


CASES = list(golden_cases('golden_freqfusion.npz'))


@pytest.mark.parametrize(('case', 'golden'), CASES)
def test_parity_with_the_authors_implementation(case, golden):
    """Of both results, with the gradients of their sum; or of the map alone."""
    module = module_of(case)
    assert sum(p.numel() for p in module.parameters()) == case['parameters']
    assert_parity(module, golden, both=case['outputs'] == 'both')


def test_the_map_alone_is_the_first_of_both():
    module = FreqFusion(16, 24).double()
    for p in module.parameters():
        torch.nn.init.normal_(p, std=0.3)
    x, guide = torch.randn(2, 16, 5, 3).double(), torch.randn(2, 24, 10, 6).double()
    torch.testing.assert_close(module(x, guide), module(x, guide, both=True)[0], rtol=0, atol=0)


@pytest.mark.parametrize(
    ('arguments', 'count'), [({}, 104_690), ({'direction_feat': 'sim'}, 78_770), ({'feature_resample': False}, 52_514)]
)
def test_parameters(arguments, count):
    assert sum(p.numel() for p in FreqFusion(256, **arguments).parameters()) == count


def test_where_the_points_start():
    """The released code overwrites the start of its offset generator."""
    ours, theirs = FreqFusion(64).dysampler, FreqFusion(64, xavier_offsets=True).dysampler
    assert ours.offset.weight.std().item() == pytest.approx(0.001, rel=0.2)
    assert not ours.direct_scale.weight.any()
    fan = theirs.offset.weight[0].numel() + theirs.offset.weight[:, 0].numel()
    assert theirs.offset.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.05)
    assert theirs.direct_scale.weight.any()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'scale_factor': 4}, 'scale_factor must be 2, got 4'),
        ({'encoder_kernel': 2}, 'encoder_kernel must be odd, got 2'),
        ({'feature_resample_group': 5}, 'in_channels must be divisible by feature_resample_group, got in_channels=64'),
        ({'compressed_channels': 4}, 'compressed_channels must be at least 8 and divisible .*, got 4'),
        ({'compressed_channels': 31}, 'divisible by compressed_channels // 8 for feature_resample_norm, got 31'),
        ({'direction_feat': 'concat'}, "direction_feat must be one of sim_concat, sim, got 'concat'"),
        ({'hamming_window': 'no'}, "hamming_window must be True or False, got 'no'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        FreqFusion(64, **arguments)
