import pytest
import torch
from conftest import assert_parity, golden_cases
from upsampler_tests import CompiledUpsamplerTests, UpsamplerTests

from mmdysample import FADE, FADELite

# The authors' two releases, and our names.
NAMES = {
    'gate_generator.conv': 'gate',
    'kernel_generator.conv1_en': 'guide_compressor',
    'kernel_generator.conv1_de': 'map_compressor',
    'kernel_generator.conv2_kernels': 'content_encoder.weight',
    'kernel_generator.conv2_bias': 'content_encoder.bias',
    'ker_generator.compressor_en': 'guide_compressor',
    'ker_generator.compressor_de': 'map_compressor',
    'ker_generator.content_encoder': 'content_encoder',
}


class TestFADE(UpsamplerTests):
    name = 'FADE'


class TestFADEWithoutGate(CompiledUpsamplerTests):
    name = 'FADE'

    def make(self, scale_factor=2, channels=None, **arguments):
        return super().make(scale_factor, channels, **{'gating': False, **arguments})


class TestFADELite(UpsamplerTests):
    name = 'FADE-Lite'


@pytest.mark.parametrize(('case', 'golden'), golden_cases('golden_fade.npz'))
def test_parity_with_the_authors_implementation(case, golden):
    cls = FADELite if case['upsampler'] == 'FADE-Lite' else FADE
    # The first release of the gated FADE, told by its parameters' names, reads the guide in an order of its own.
    arguments = dict(released_order=True) if 'param/kernel_generator.conv2_kernels' in golden else {}
    assert_parity(cls(case['channels'], gating=case['kwargs']['gating'], **arguments), golden, NAMES)


def test_the_released_order_is_another_function():
    usual, released = FADE(32), FADE(32, released_order=True)
    for p in usual.parameters():
        torch.nn.init.normal_(p)
    released.load_state_dict(usual.state_dict())
    x, guide = torch.randn(1, 32, 3, 4), torch.randn(1, 32, 6, 8)
    assert not torch.allclose(usual(x, guide), released(x, guide), atol=0.1)


def test_the_released_order_takes_an_empty_batch():
    assert FADE(32, released_order=True)(torch.randn(0, 32, 3, 4), torch.randn(0, 32, 6, 8)).shape == (0, 32, 6, 8)


def test_the_gate_mixes_the_guide_in():
    module = FADE(32)
    x, guide = torch.randn(1, 32, 3, 4), torch.randn(1, 32, 6, 8)
    torch.nn.init.constant_(module.gate.bias, 50)
    torch.testing.assert_close(module(x, guide), guide)


def test_a_guide_of_other_channels_needs_no_gate():
    module = FADE(32, guide_channels=16, gating=False)
    assert module(torch.randn(1, 32, 3, 4), torch.randn(1, 16, 6, 8)).shape == (1, 32, 6, 8)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            dict(guide_channels=16),
            'the gate needs guide_channels equal to in_channels, got in_channels=32, guide_channels=16; use gating=False',
        ),
        (dict(guide_channels=0), 'guide_channels must be a positive integer, got 0'),
        (dict(gating='off'), "gating must be True or False, got 'off'"),
        (dict(up_kernel=2), 'up_kernel must be odd, got 2'),
        (dict(released_order=True, scale_factor=3), 'released_order needs scale_factor=2 and .* got scale_factor=3'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        FADE(32, **arguments)
