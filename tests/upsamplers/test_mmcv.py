"""mmcv's upsamplers, as the builder configures them."""

import pytest
from upsampler_tests import UpsamplerTests


class MmcvTests(UpsamplerTests):
    # These leave what is wrong to torch.
    test_names_what_is_wrong_with_the_input = None
    test_names_what_is_wrong_with_the_arguments = None


class TestNearest(MmcvTests):
    name = 'nearest'
    memory = (1.1, 3.1)


class TestBilinear(MmcvTests):
    name = 'bilinear'
    memory = (1.1, 3.1)


class TestDeconv(MmcvTests):
    name = 'deconv'
    memory = (4, 8)
    keeps_dtype = False


class TestPixelShuffle(MmcvTests):
    name = 'pixel_shuffle'
    keeps_dtype = False

    def test_empty_batch(self):
        """It cannot be trained on one: torch's pixel shuffle has no gradient for that."""
        with pytest.raises(RuntimeError, match='PixelShuffleBackward0 returned an invalid gradient'):
            super().test_empty_batch()
