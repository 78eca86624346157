import numpy as np
import pytest

from mmdysample.evaluation.panoptic_quality import Matches, Segments, class_quality, match_segments, mean_quality

CLASSES = 4


def pixels(segments, chosen):
    """The pixels of each chosen id, as sets of places."""
    found = {}
    for y, row in enumerate(segments.ids.tolist()):
        for x, segment in enumerate(row):
            if chosen(segment):
                found.setdefault(segment, set()).add((y, x))
    return found


def slow_matches(pred, truth):
    """The definition, set by set."""
    iou, tp, fp, fn = np.zeros(CLASSES), *np.zeros((3, CLASSES), int)
    predicted, true = pixels(pred, pred.classes.__contains__), pixels(truth, truth.classes.__contains__)
    void = set().union(*pixels(truth, lambda i: i not in truth.classes).values())
    crowd = {c: set().union(*(true[i] for i in truth.crowd if i in true and truth.classes[i] == c)) for c in range(CLASSES)}
    matched = set()
    for g, area in true.items():
        if g in truth.crowd:
            continue
        label = truth.classes[g]
        for p, guess in predicted.items():
            ratio = len(guess & area) / len((guess - void) | area)
            if pred.classes[p] == label and ratio > 0.5:
                matched |= {('g', g), ('p', p)}
                tp[label] += 1
                iou[label] += ratio
        fn[label] += ('g', g) not in matched
    for p, guess in predicted.items():
        label = pred.classes[p]
        fp[label] += ('p', p) not in matched and len(guess & (void | crowd[label])) / len(guess) <= 0.5
    return Matches(iou, tp, fp, fn)


def random_maps(rng):
    """Cells around random points; the prediction moves, merges and renames some of them."""
    height, width, count = 2 * rng.integers(4, 9) + 1, 2 * rng.integers(5, 10) + 1, rng.integers(2, 9)
    grid = np.stack(np.mgrid[:height, :width], -1)
    points = rng.uniform(0, (height, width), (count, 2))
    cells = [np.argmin(((grid[:, :, None] - p) ** 2).sum(-1), -1) for p in (points, points + rng.normal(0, 1.5, points.shape))]
    names = [rng.choice(2**24, count, replace=False) for _ in range(2)]
    labels = rng.integers(0, CLASSES, count)
    guesses = np.where(rng.random(count) < 0.7, labels, rng.integers(0, CLASSES, count))
    true_void, pred_void, crowd = rng.random((3, count)) < 0.25
    truth = Segments(
        names[0][cells[0]],
        {int(i): int(c) for i, c, void in zip(names[0], labels, true_void) if not void},
        frozenset(int(i) for i, many, void in zip(names[0], crowd, true_void) if many and not void),
    )
    pred = Segments(names[1][cells[1]], {int(i): int(c) for i, c, void in zip(names[1], guesses, pred_void) if not void})
    return pred, truth


def test_it_counts_what_the_definition_says():
    rng = np.random.default_rng(0)
    totals = np.zeros(4)
    for _ in range(150):
        pred, truth = random_maps(rng)
        got, expected = match_segments(pred, truth, CLASSES), slow_matches(pred, truth)
        np.testing.assert_allclose(got.iou, expected.iou)
        for name in ('tp', 'fp', 'fn'):
            assert np.array_equal(getattr(got, name), getattr(expected, name)), (name, pred, truth)
        totals += [field.sum() for field in got]
    assert totals.min() > 50  # each of them happens often


def stripes(*runs):
    """A map of one row: ``(id, length)``."""
    return np.repeat([i for i, _ in runs], [n for _, n in runs])[None]


@pytest.mark.parametrize(
    ('pred', 'truth', 'crowd', 'expected'),
    [
        (((1, 10),), ((5, 10),), (), (1.0, 1, 0, 0)),
        (((1, 10), (0, 10)), ((5, 20),), (), (0.0, 0, 1, 1)),  # an IoU of exactly a half is none
        (((1, 11), (0, 9)), ((5, 20),), (), (0.55, 1, 0, 0)),
        (((1, 20),), ((5, 11), (0, 9)), (), (1.0, 1, 0, 0)),  # void is left out of the union
        (((1, 20),), ((9, 10), (0, 10)), (9,), (0.0, 0, 0, 0)),  # crowd is not missed, and forgives with void together
        (((1, 20),), ((7, 10), (0, 10)), (), (0.0, 0, 1, 0)),  # half of it in void is not more than half
        (((1, 20),), ((7, 9), (0, 11)), (), (0.0, 0, 0, 0)),
        (((1, 20),), ((8, 20),), (8,), (0.0, 0, 1, 0)),  # a crowd of another class forgives nothing
    ],
)
def test_the_rules_one_by_one(pred, truth, crowd, expected):
    """Segments 1, 5 and 9 are of class 0; 7 and 8 of class 1; 0 is void."""
    guess = Segments(stripes(*pred), {1: 0})
    true = Segments(stripes(*truth), {5: 0, 9: 0, 7: 1, 8: 1}, frozenset(crowd))
    assert [field[0] for field in match_segments(guess, true, 2)] == pytest.approx(expected)


def test_means_leave_out_absent_classes():
    matches = Matches(np.array([1.5, 0.0, 0.0]), np.array([2, 0, 0]), np.array([1, 0, 3]), np.array([1, 0, 0]))
    pq, sq, rq = class_quality(matches)
    assert [pq[0], sq[0], rq[0]] == pytest.approx([0.5, 0.75, 2 / 3])
    assert [pq[2], sq[2], rq[2]] == [0, 0, 0]
    assert np.isnan([pq[1], sq[1], rq[1]]).all()
    assert mean_quality(matches) == pytest.approx((0.25, 0.375, 1 / 3, 2))
    assert mean_quality(matches, np.array([True, True, False])) == pytest.approx((0.5, 0.75, 2 / 3, 1))
    *means, n = mean_quality(matches, np.array([False, True, False]))
    assert n == 0
    assert np.isnan(means).all()


def test_maps_of_two_sizes():
    with pytest.raises(ValueError, match=r'must have the size of the true one, got \(3, 5\) and \(3, 4\)'):
        match_segments(Segments(np.zeros((3, 5), int), {}), Segments(np.zeros((3, 4), int), {}), 1)


def test_a_class_too_many():
    with pytest.raises(ValueError, match=r'must be from 0 to 1, got \[2\]'):
        match_segments(Segments(np.ones((3, 5), int), {1: 2}), Segments(np.ones((3, 5), int), {1: 0}), 2)
