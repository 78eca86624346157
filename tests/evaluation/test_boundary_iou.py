import numpy as np
import pytest
from boundary_reference import CLASSES, IGNORE, SLOW, case, label_map, meets_another

from mmdysample.evaluation.boundary_iou import (
    FORMS,
    at_predicted_boundary_counts,
    boundary,
    boundary_iou_counts,
    near_boundary_counts,
    width_in_pixels,
)

SIZES = [(13, 17), (9, 22), (1, 7)]


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('width', [1, 2, 4, 30])
def test_the_band_of_a_mask(size, width):
    mask = label_map(*size, labels=(0, 1)) == 1
    mask[:, -5:] = True
    expected = [[bool(mask[y, x]) and meets_another(mask, y, x, width, True) for x in range(size[1])] for y in range(size[0])]
    assert boundary(mask, width).tolist() == expected


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('width', [1, 2, 4, 30])
@pytest.mark.parametrize('name', FORMS)
def test_by_its_definition(name, width, size):
    prediction, truth = case(*size)
    counts = FORMS[name][0](prediction, truth, CLASSES, width)
    assert counts.dtype == np.int64
    assert counts.tolist() == SLOW[name](prediction, truth, width).tolist()
    assert counts[:, 4].tolist() == [0, 0]
    prediction[truth == IGNORE] = 1
    assert FORMS[name][0](prediction, truth, CLASSES, width).tolist() == SLOW[name](prediction, truth, width).tolist()


def square(top, left):
    labels = np.zeros((21, 27), int)
    labels[top : top + 9, left : left + 9] = 1
    return labels


def test_boundary_iou_of_a_square_in_numbers():
    """A ring of 9 by 9 less 5 by 5 pixels, and the same a pixel to the right."""
    assert boundary_iou_counts(square(6, 6), square(6, 6), 2, 2)[:, 1].tolist() == [81 - 25] * 2
    # Of the ring's 9 rows, the four outer ones have 8 pixels of 9 in common, the inner ones 1 of 2 on either side.
    intersection = 4 * 8 + 5 * 2
    assert boundary_iou_counts(square(6, 7), square(6, 6), 2, 2)[:, 1].tolist() == [intersection, 2 * 56 - intersection]


def test_what_is_missed_away_from_predicted_boundaries_costs_their_variant_nothing():
    empty = np.zeros((21, 27), int)
    assert at_predicted_boundary_counts(empty, square(6, 6), 2, 2)[1, 1] == 0
    assert near_boundary_counts(empty, square(6, 6), 2, 2)[1, 1] == 56
    assert boundary_iou_counts(empty, square(6, 6), 2, 2)[:, 1].tolist() == [0, 56]


@pytest.mark.parametrize('name', FORMS)
def test_perfect_is_100_percent_and_a_shift_is_less(name):
    perfect = FORMS[name][0](square(6, 6), square(6, 6), 2, 2)
    assert (perfect[0] == perfect[1]).all()
    assert (perfect > 0).all()
    shares = [counts[0] / counts[1] for counts in (FORMS[name][0](square(6, 6 + shift), square(6, 6), 2, 2) for shift in (0, 1, 2))]
    assert (shares[0] > shares[1]).all()
    assert (shares[1] > shares[2]).all()


def test_an_image_without_a_boundary_has_nothing_near_it():
    assert near_boundary_counts(np.zeros((9, 11), int), np.zeros((9, 11), int), 2, 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ('shape', 'ratio', 'width'), [((480, 640), 0.02, 16), ((480, 640), 0.005, 4), ((512, 683), 0.02, 17), ((30, 40), 0.005, 1)]
)
def test_widths(shape, ratio, width):
    """Diagonals of 800, 800, 853.6 and 50 pixels."""
    assert width_in_pixels(shape, ratio) == width
