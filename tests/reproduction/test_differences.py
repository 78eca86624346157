"""Paired differences and their intervals, against formulas for the cases that have one."""

from types import SimpleNamespace

import numpy as np
import pytest

from mmdysample.evaluation.image_counts import ImageCounts
from mmdysample.reproduction.differences import Difference, difference, resample

UNION = 10**6


def counted(shares):
    """Counts of one class in which the IoU of each image is given, ``(images,)``; all images weigh the same."""
    counts = np.full((len(shares), 3, 2, 1), UNION, np.int64)
    counts[:, :, 0, 0] = np.round(UNION * np.asarray(shares))[:, None]
    return ImageCounts(tuple(map(str, range(len(shares)))), ('a',), counts)


def half_width(ours, theirs):
    low, high = resample('mIoU', [counted(one) for one in ours], [counted(one) for one in theirs])
    return (high - low) / 2


def test_seeds_that_differ_and_images_that_do_not():
    """The standard error of a mean is the standard deviation by n - 1 over the root of n."""
    gains = np.random.normal(0.1, 0.02, 40)
    ours = [np.full(7, 0.5 + gain) for gain in gains]
    expected = 2.0227 * 100 * gains.std(ddof=1) / 40**0.5  # t of 39 degrees of freedom
    assert half_width(ours, [np.full(7, 0.5)] * 40) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(('seeds', 't'), [(2, 12.7062), (3, 4.3027), (5, 2.7764)])
def test_few_seeds_have_the_interval_of_students_t(seeds, t):
    gains = np.linspace(0.05, 0.1, seeds)
    expected = t * 100 * gains.std(ddof=1) / seeds**0.5
    assert half_width([np.full(7, 0.5 + gain) for gain in gains], [np.full(7, 0.5)] * seeds) == pytest.approx(expected, rel=0.05)


def test_images_that_differ_and_seeds_that_do_not():
    base = np.random.uniform(0.2, 0.6, 300)
    gains = np.random.normal(0.1, 0.05, 300)
    assert half_width([base + gains] * 5, [base] * 5) == pytest.approx(2.7764 * 100 * gains.std() / 300**0.5, rel=0.05)


def test_what_both_rows_have_in_common_is_not_in_the_interval():
    """A seed or an image that is hard for both rows alike."""
    base = np.random.uniform(0.2, 0.6, (5, 50))
    assert half_width(base + 0.1, base) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize('shape', ['images', 'classes'])
def test_other_images_or_classes(shape):
    one = counted([0.1, 0.2])
    other = ImageCounts(('0', 'x'), ('a',), one.counts) if shape == 'images' else ImageCounts(one.images, ('b',), one.counts)
    with pytest.raises(ValueError, match='different images or classes'):
        resample('mIoU', [one, one], [one, other])


def trainings(values, counts=None):
    return [
        SimpleNamespace(metric=lambda name, value=value: value, counts=lambda i=i: None if counts is None else counts[i])
        for i, value in enumerate(values)
    ]


def test_students_t_without_counts():
    """By hand: differences 1, 2 and 3 have a standard error of 1 / sqrt(3), and t of two degrees of freedom is 4.3027."""
    found = difference('mIoU', trainings([11, 12, 13, None]), trainings([10, 10, 10, 10]))
    assert (found.mean, found.low, found.high) == pytest.approx((2, 2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-3)
    assert found.verdict == 'not resolved'
    assert difference('box AP', trainings([0.52, 0.53]), trainings([0.5, 0.5])).mean == pytest.approx(2.5)


def test_the_bootstrap_where_there_are_counts():
    base, gain = np.random.uniform(0.3, 0.5, 30), np.random.uniform(0.09, 0.1, (2, 30))
    ours, theirs = [counted(base + one) for one in gain], [counted(base)] * 2
    found = difference('mIoU', trainings([50, 51], ours), trainings([43, 43], theirs))
    assert (found.low, found.high) == resample('mIoU', ours, theirs)
    assert 0 < found.low < found.high
    assert found.verdict == 'above'


def test_one_seed_and_none():
    assert difference('mIoU', trainings([11, None]), trainings([10, 10])) == Difference(1)
    assert difference('mIoU', trainings([None]), trainings([10])) is None


def test_texts():
    assert Difference(1.234, 0.5, 2).text(2) == '+1.23 [+0.50, +2.00]'
    assert Difference(-1.0).text(1) == '-1.0'
    assert [Difference(*one).verdict for one in ((1, 0.1, 2), (-1, -2, -0.1), (1, -1, 3), (1, 0, 2), (1,))] == [
        'above',
        'below',
        'not resolved',
        'not resolved',
        'one seed',
    ]


def test_equal_differences_have_no_interval():
    """Of two seeds whose AP has three digits, by chance."""
    found = difference('box AP', trainings([0.503, 0.603]), trainings([0.5, 0.6]))
    assert found.mean == pytest.approx(0.3)
    assert found.verdict == 'not resolved'
    assert found.text(1) == '+0.3 [-inf, +inf]'
