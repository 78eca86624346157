import pytest
import torch
from conftest import assert_parity, golden_cases
from upsampler_tests import UpsamplerTests

from mmdysample.upsamplers import CARAFE, DLU


class TestDLU(UpsamplerTests):
    name = 'DLU'
    reach_of_a_pixel = None  # with random weights, points lie anywhere


@pytest.mark.parametrize(('case', 'golden'), golden_cases('golden_dlu.npz'))
def test_parity_with_the_authors_implementation(case, golden):
    module = DLU(case['channels'], case['scale_factor'], **case['kwargs'])
    assert sum(p.numel() for p in module.parameters()) == case['parameters']
    assert_parity(module, golden)


def test_parameters():
    assert sum(p.numel() for p in DLU(256).parameters()) == 35_489


def test_it_starts_with_the_kernels_of_the_input_pixels():
    """That is a CARAFE whose kernels are equal for the pixels of one input pixel."""
    ours, carafe = DLU(16, 3).double(), CARAFE(16, 3).double()
    for p in ours.kernel_space_generator.parameters():
        torch.nn.init.normal_(p)
    carafe.channel_compressor.load_state_dict(ours.channel_compressor.state_dict())
    for p, mine in zip(carafe.content_encoder.parameters(), ours.kernel_space_generator.parameters()):
        p.data = mine.repeat_interleave(9, 0)
    x = torch.randn(2, 16, 5, 4).double()
    torch.testing.assert_close(ours(x), carafe(x))


@pytest.mark.parametrize(('height', 'width'), [(1, 1), (1, 5), (4, 1)])
def test_a_map_of_one_row(height, width):
    """Whose points are NaN in the authors' code."""
    module = DLU(16)
    torch.nn.init.normal_(module.conv_offset.weight)
    x = torch.randn(1, 16, height, width, requires_grad=True)
    module(x).square().sum().backward()
    assert all(t.grad.isfinite().all() for t in (x, *module.parameters()))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'up_kernel': 4}, 'up_kernel must be odd, got 4'),
        ({'encoder_kernel': 0}, 'encoder_kernel must be a positive integer, got 0'),
        ({'compressed_channels': -1}, 'compressed_channels must be a positive integer, got -1'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DLU(16, **arguments)
