"""The difference of a row from the baseline, paired by seed, with a 95 % interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np

from mmdysample.evaluation.image_counts import ImageCounts

from .measured import KEYS
from .training import Training

CONFIDENCE = 0.95
RESAMPLINGS = 5000
EQUAL = 1e-6


@dataclass(frozen=True)
class Difference:
    """A mean difference over seeds, in the unit of the table; ``low`` and ``high`` are the ends of the interval, None for one seed."""

    mean: float
    low: Optional[float] = None
    high: Optional[float] = None

    def text(self, digits: int) -> str:
        """Return the difference and the interval to that many digits after the decimal point."""
        if self.low is None or self.high is None:
            return f'{self.mean:+.{digits}f}'
        return f'{self.mean:+.{digits}f} [{self.low:+.{digits}f}, {self.high:+.{digits}f}]'

    @property
    def verdict(self) -> str:
        """``'above'`` or ``'below'`` where the interval excludes zero, otherwise ``'not resolved'``; for one seed, ``'one seed'``."""
        if self.low is None or self.high is None:
            return 'one seed'
        if not (self.low > 0 or self.high < 0):  # also where the ends are NaN
            return 'not resolved'
        return 'above' if self.mean > 0 else 'below'


def difference(metric: str, trainings: Sequence[Training], baseline: Sequence[Training]) -> Optional[Difference]:
    """Return the difference in a metric of the table between two rows, over the seeds that are complete in both.

    Where the counts of each image are known, the interval is by the bootstrap over seeds and images (:func:`resample`). Otherwise it is
    that of Student's t over the seeds, and without ends where the differences of all seeds are equal.

    Args:
        metric: A column of the table.
        trainings: The trainings of the row, one for each seed.
        baseline: The trainings of the baseline, in the same order of seeds.

    Returns:
        The difference; None without a seed that both have.

    Raises:
        ValueError: A file of counts is damaged, or two are of different images.
    """
    key = KEYS[metric]
    values = [tuple(training.metric(key.name) for training in pair) for pair in zip(trainings, baseline)]
    pairs = [(a, b, pair) for (a, b), pair in zip(values, zip(trainings, baseline)) if a is not None and b is not None]
    if not pairs:
        return None
    differences = np.array([key.factor * (a - b) for a, b, _ in pairs])
    mean = float(differences.mean())
    if len(pairs) == 1:
        return Difference(mean)
    counts = [tuple(training.counts() for training in pair) for _, _, pair in pairs]
    if all(one is not None for pair in counts for one in pair):
        ours, theirs = ([one for one in side if one is not None] for side in zip(*counts))
        return Difference(mean, *resample(key.name, ours, theirs))
    if np.ptp(differences) < EQUAL:  # an AP has three digits, so differences can be equal by chance, and t would be infinite
        return Difference(mean, -np.inf, np.inf)
    from scipy.stats import ttest_1samp  # slow to import

    interval = ttest_1samp(differences, 0.0).confidence_interval(CONFIDENCE)
    return Difference(mean, float(interval.low), float(interval.high))


def resample(
    metric: str, ours: Sequence[ImageCounts], theirs: Sequence[ImageCounts], resamplings: int = RESAMPLINGS
) -> tuple[float, float]:
    """Return the ends of the interval of a mean difference, with the standard error by the bootstrap over seeds and images.

    Each resampling draws as many images as there are, and one seed less than there are, with replacement, the same for both rows. One less
    makes the variance between seeds unbiased (Rao and Wu, 1988, https://doi.org/10.1080/01621459.1988.10478591). The percentiles of so few
    seeds would be too narrow, so the interval is that of Student's t with the degrees of freedom of the seeds.

    Args:
        metric: One of ``mIoU``, ``near_boundary_iou``, ``boundary_iou`` and ``IoU.<class>``.
        ours: The counts of a row, one for each seed.
        theirs: The counts of the baseline, in the same order of seeds.
        resamplings: Number of resamplings.

    Raises:
        ValueError: The counts are of different images or classes.
    """
    first = ours[0]
    if any((one.images, one.classes) != (first.images, first.classes) for one in (*ours, *theirs)):
        raise ValueError('the counts of images are of different images or classes: test the rows on the same data')
    random = np.random.default_rng(0)
    images, seeds = len(first.images), len(ours)
    weights = random.multinomial(images, [1 / images] * images, resamplings)
    scores = []
    for side in (ours, theirs):
        stack = np.stack([one.counts for one in side])  # seeds, images, forms, 2, classes
        scores.append(first.score(metric, np.einsum('ri,sifpc->srfpc', weights, stack)))
    drawn = random.multinomial(seeds - 1, [1 / seeds] * seeds, resamplings) / (seeds - 1)
    means = (drawn.T * (scores[0] - scores[1])).sum(0)
    from scipy.stats import t  # slow to import

    reach = t.ppf((1 + CONFIDENCE) / 2, seeds - 1) * means.std()
    centre = (first.score(metric, _totals(ours)) - first.score(metric, _totals(theirs))).mean()
    return float(centre - reach), float(centre + reach)


def _totals(side: Sequence[ImageCounts]) -> np.ndarray:
    """Return the sums over images, ``(seeds, 3, 2, classes)``."""
    return np.stack([one.counts.sum(0) for one in side])
