"""Multiplications of whole models."""

import pytest

from mmdysample import FreqFusion
from mmdysample.catalogue.flops import SEGFORMER_STEPS, count_multiplications
from mmdysample.catalogue.model_flops import count_rest, count_upsamplers

SEGFORMER = 'segformer_b1_dysample.py'


@pytest.fixture(autouse=True)
def _frameworks():
    pytest.importorskip('mmdet')
    pytest.importorskip('mmseg')


def test_segformer_without_its_upsamplers_costs_what_is_published():
    assert count_rest(SEGFORMER, 512, 512) / 1e9 == pytest.approx(15.9, abs=0.05)


# From the README of poppinace/fade, in G.
@pytest.mark.parametrize(('upsampler', 'published'), [('nearest', 0.0), ('CARAFE', 1.45), ('FADE', 2.65), ('IndexNet', 30.65)])
def test_upsamplers_of_segformer_cost_what_is_published(upsampler, published):
    assert count_upsamplers(SEGFORMER, upsampler, 512, 512) / 1e9 == pytest.approx(published, abs=0.005)


def test_the_enhanced_guides_that_the_head_takes_are_counted():
    """One at each size: the chains of several steps pass by the finer maps of others."""
    alone = sum(steps * freqfusion(size, enhances=False) for size, steps in SEGFORMER_STEPS.items())
    enhanced = sum(freqfusion(size) - freqfusion(size, enhances=False) for size in SEGFORMER_STEPS)
    assert enhanced > 0
    assert count_upsamplers(SEGFORMER, 'FreqFusion', 512, 512) == alone + enhanced


def freqfusion(size, enhances=True):
    module = FreqFusion(256)
    module.enhances_guide = enhances
    return count_multiplications(module, size, size)


def test_bilinear_is_four_multiplications_for_each_number():
    # From strides 8, 16 and 32 to stride 4, in steps: one map to 32x32, two to 64x64, three to 128x128.
    numbers = 256 * (32 * 32 + 2 * 64 * 64 + 3 * 128 * 128)
    assert count_upsamplers(SEGFORMER, 'bilinear', 512, 512) == 4 * numbers


def test_upsamplers_of_maskformer_cost_what_is_published():
    """From the README of poppinace/sapa, in G."""
    assert count_upsamplers('maskformer_swin_b_dysample.py', 'CARAFE', 640, 640) / 1e9 == pytest.approx(0.84, abs=0.005)


def test_a_detector_is_counted_with_as_many_proposals_every_time():
    config = 'shapes/faster_rcnn_dysample_shapes.py'
    first = count_rest(config, 128, 128)
    count_rest.cache_clear()
    assert count_rest(config, 128, 128) == first > 0
