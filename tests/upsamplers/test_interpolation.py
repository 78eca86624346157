"""The baselines, which have the names, arguments, weights and outputs of mmcv's."""

import pytest
import torch
from torch import nn
from upsampler_tests import UpsamplerTests

from mmdysample import build_upsampler


class TorchTests(UpsamplerTests):
    # Modules of torch.nn leave wrong inputs and arguments to torch.
    test_names_what_is_wrong_with_the_input = None
    test_names_what_is_wrong_with_the_arguments = None
    test_names_a_dtype_that_is_not_floating_point = None


class TestNearest(TorchTests):
    name = 'nearest'
    memory = (1.1, 3.1)


class TestBilinear(TorchTests):
    name = 'bilinear'
    memory = (1.1, 3.1)


class TestDeconv(TorchTests):
    name = 'deconv'
    refused = ('eager quantisation',)  # torch's default for x86 has no transposed convolution
    test_fx_traces_it_alone = None  # torch traces it within a model only
    memory = (4, 8)
    keeps_dtype = False


class TestPixelShuffle(UpsamplerTests):
    name = 'pixel_shuffle'


@pytest.mark.parametrize('name', ['nearest', 'bilinear', 'deconv', 'pixel_shuffle'])
@pytest.mark.parametrize('s', [2, 3])
def test_equals_mmcv(name, s):
    mmcv = pytest.importorskip('mmcv.cnn')
    padding = (4 - s) // 2
    given = {
        'nearest': dict(scale_factor=s),
        'bilinear': dict(scale_factor=s),
        'deconv': dict(in_channels=6, out_channels=6, kernel_size=3, stride=s, padding=padding, output_padding=s + 2 * padding - 3),
        'pixel_shuffle': dict(in_channels=6, out_channels=6, scale_factor=s, upsample_kernel=3),
    }
    theirs = mmcv.build_upsample_layer(dict(type=name, **given[name]))
    ours = build_upsampler(name, 6, s)
    shapes = [{key: value.shape for key, value in module.state_dict().items()} for module in (ours, theirs)]
    assert shapes[0] == shapes[1]
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 6, 5, 7)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)
    assert not [m for m in ours.modules() if 'mmcv' in type(m).__module__]


def test_arguments_of_mmcv_still_work():
    up = build_upsampler(dict(type='pixel_shuffle', upsample_kernel=5), 8)
    assert up.upsample_conv.kernel_size == (5, 5)
    assert build_upsampler(dict(type='bilinear', align_corners=True), 8).align_corners
    with pytest.raises(ValueError, match='upsample_kernel must be odd, got 4'):
        build_upsampler(dict(type='pixel_shuffle', upsample_kernel=4), 8)
    assert isinstance(build_upsampler(dict(type=nn.Upsample, mode='bicubic'), 8, 3), nn.Upsample)
