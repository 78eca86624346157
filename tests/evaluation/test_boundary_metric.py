import math

import numpy as np
import pytest
import torch
from boundary_reference import CLASSES, IGNORE, SLOW, case
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData

pytest.importorskip('mmseg')
from mmseg.structures import SegDataSample

from mmdysample.evaluation.boundary_iou import FORMS

META = dict(classes=('wall', 'chair', 'lamp', 'door', 'cat'))
# 0.08 of the diagonals of the images below: two pixels and three.
WIDE = dict.fromkeys(FORMS, 0.08)


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmseg')


def evaluate(pairs, forms=WIDE, meta=META, **kwargs):
    """Through mmengine's evaluator, two images and then the others."""
    evaluator = Evaluator(dict(type='mmdysample.BoundaryIoUMetric', forms=forms, **kwargs))
    evaluator.dataset_meta = meta
    samples = [
        SegDataSample(
            pred_sem_seg=PixelData(data=torch.from_numpy(prediction)[None]), gt_sem_seg=PixelData(data=torch.from_numpy(truth)[None])
        )
        for prediction, truth in pairs
    ]
    for batch in (samples[:2], samples[2:]):
        evaluator.process(data_samples=batch, data_batch=None)
    return evaluator.evaluate(len(samples))


def scenes():
    return [case(13, 17), case(17, 33), case(11, 20)]


def anything_where_unknown(pairs, high=CLASSES):
    return [(np.where(truth == IGNORE, np.random.randint(0, high, truth.shape), prediction), truth) for prediction, truth in pairs]


def test_counts_of_all_images_are_added_up_before_they_are_divided():
    """By the definitions pixel by pixel; class 2 is in predictions alone, class 4 nowhere, and so in no mean."""
    pairs = scenes()
    results = evaluate(anything_where_unknown(pairs))
    assert list(results) == list(FORMS)
    widths = [round(0.08 * math.hypot(*truth.shape)) for _, truth in pairs]
    assert widths == [2, 3, 2]
    for name, slow in SLOW.items():
        intersection, union = sum(slow(*pair, width) for pair, width in zip(pairs, widths))
        assert union[4] == 0 < union[2]
        expected = 100 * sum(intersection[i] / union[i] for i in range(4)) / 4
        assert 0 < expected < 100
        assert results[name] == pytest.approx(expected, abs=0.0051)


def test_what_is_predicted_for_pixels_without_a_label_is_all_the_same():
    pairs = scenes()
    assert any((truth == IGNORE).any() for _, truth in pairs)
    assert evaluate(anything_where_unknown(pairs)) == evaluate(anything_where_unknown(pairs, high=2)) == evaluate(pairs)


@pytest.mark.parametrize('label', [0, 254])
def test_another_label_for_pixels_without_one(label):
    pairs = anything_where_unknown(scenes())
    if label == 0:  # by which class 0 is free
        pairs = [(prediction + 1, np.where(truth == IGNORE, 0, truth + 1)) for prediction, truth in pairs]
        meta = dict(classes=('nothing', *META['classes']))
    else:
        pairs, meta = [(prediction, np.where(truth == IGNORE, label, truth)) for prediction, truth in pairs], META
    before = [(prediction - (label == 0), np.where(truth == label, IGNORE, truth - (label == 0))) for prediction, truth in pairs]
    assert evaluate(pairs, meta=meta, ignore_index=label) == evaluate(before)


def test_more_classes_than_the_label_for_none():
    """Class 256 is none the less a class."""
    pairs = scenes()
    many = [tuple(np.where(labels == 3, 256, labels) for labels in pair) for pair in pairs]
    assert evaluate(many, meta=dict(classes=[str(i) for i in range(300)])) == evaluate(pairs)


def test_perfect_is_100_and_a_shift_is_less():
    truths = [truth for _, truth in scenes()]
    assert evaluate([(truth, truth) for truth in truths]) == dict.fromkeys(FORMS, 100.0)
    shifted = evaluate([(np.roll(truth, 1, axis=1), truth) for truth in truths])
    assert all(0 < value < 90 for value in shifted.values())


def test_nan_where_no_pixel_has_a_label():
    blind = np.full((13, 17), IGNORE)
    assert all(math.isnan(value) for value in evaluate([(np.zeros_like(blind), blind)]).values())


def test_forms_by_name_have_the_widths_of_the_papers():
    pairs = [case(101, 77)]  # of 127 pixels across: 3, 1 and 3 pixels
    assert evaluate(pairs, forms=list(FORMS)) == evaluate(
        pairs, forms=dict(boundary_iou=0.02, predicted_boundary_iou=0.005, near_boundary_iou=0.02)
    )
    assert evaluate(pairs, forms='near_boundary_iou', prefix='val').keys() == {'val/near_boundary_iou'}


@pytest.mark.parametrize(
    ('forms', 'message'),
    [
        (['bIoU'], 'forms may be boundary_iou, predicted_boundary_iou, near_boundary_iou, got bIoU'),
        ('boundary', 'forms may be .*, got boundary'),
        ([], 'forms may be .*, got none'),
        ({'boundary_iou': 0}, 'the width of boundary_iou must be a fraction .*, above 0 and below 1, got 0'),
        ({'boundary_iou': -0.02}, 'got -0.02'),
        ({'near_boundary_iou': 3}, 'the width of near_boundary_iou .* got 3'),
        ({'near_boundary_iou': float('nan')}, 'got nan'),
        ({'near_boundary_iou': '2%'}, "got '2%'"),
    ],
)
def test_bad_arguments(forms, message):
    with pytest.raises(ValueError, match=message) as error:
        evaluate([], forms=forms)
    assert '\n' not in str(error.value)
