"""Panoptic quality of label maps: Kirillov et al., *Panoptic Segmentation*, CVPR 2019, with COCO's rules for void and crowd."""

from typing import NamedTuple, Optional

import numpy as np

NO_CLASS = -1


class Segments(NamedTuple):
    """A map of segment ids and their classes. Ids without a class are void."""

    ids: np.ndarray  # (H, W), integers
    classes: dict[int, int]  # id: class
    crowd: frozenset[int] = frozenset()  # ids of regions of many objects that are not labelled one by one


class Matches(NamedTuple):
    """The counts of :func:`match_segments` for each class, of one image or summed over several."""

    iou: np.ndarray  # (K,), float64: sum over the matched pairs
    tp: np.ndarray  # (K,), int64: matched pairs
    fp: np.ndarray  # (K,), int64: predicted segments without a match
    fn: np.ndarray  # (K,), int64: true segments without a match


class Quality(NamedTuple):
    """Means over classes, from 0 to 1. ``pq = sq * rq`` holds for each class, but not for the means. NaN if there is no class."""

    pq: float
    sq: float  # segmentation quality: the mean IoU of the matched pairs
    rq: float  # recognition quality: F1 of the matches
    n: int  # classes in the mean


def match_segments(pred: Segments, truth: Segments, num_classes: int) -> Matches:
    """Count the matches between predicted and true segments.

    Two segments of one class match if their IoU is above 0.5, which is possible with one other segment at most. Void pixels of the truth
    are left out of the union. A true crowd region matches nothing and does not count as a false negative. A predicted segment without a
    match does not count as a false positive if more than half of it lies in void or in crowd regions of its class.

    Args:
        pred: The prediction.
        truth: The truth, of the same height and width.
        num_classes: The number of classes ``K``. Classes are numbered from 0.

    Returns:
        The counts of each class.

    Raises:
        ValueError: The maps differ in size, or a class is not below ``num_classes``.
    """
    if pred.ids.shape != truth.ids.shape:
        raise ValueError(f'the predicted label map must have the size of the true one, got {pred.ids.shape} and {truth.ids.shape}')
    if unknown := {*pred.classes.values(), *truth.classes.values()} - set(range(num_classes)):
        raise ValueError(f'classes must be from 0 to {num_classes - 1}, got {sorted(unknown)}')
    pred_ids, p = np.unique(pred.ids, return_inverse=True)
    true_ids, t = np.unique(truth.ids, return_inverse=True)
    shape = len(true_ids), len(pred_ids)
    shared = np.bincount(t.ravel() * shape[1] + p.ravel(), minlength=shape[0] * shape[1]).reshape(shape)
    pred_class = np.array([pred.classes.get(i, NO_CLASS) for i in pred_ids.tolist()])
    true_class = np.array([truth.classes.get(i, NO_CLASS) for i in true_ids.tolist()])
    crowd = np.array([i in truth.crowd for i in true_ids.tolist()])

    pred_area = shared.sum(0)
    void = shared[true_class == NO_CLASS].sum(0)
    union = shared.sum(1)[:, None] + pred_area - shared - void
    same = (true_class[:, None] == pred_class) & (pred_class != NO_CLASS)
    match = same & ~crowd[:, None] & (2 * shared > union)
    forgiven = void + (shared * (same & crowd[:, None])).sum(0)
    found = match.any(1)
    missed = (true_class != NO_CLASS) & ~crowd & ~found
    spurious = (pred_class != NO_CLASS) & ~match.any(0) & (2 * forgiven <= pred_area)

    pairs = np.nonzero(match)
    return Matches(
        iou=np.bincount(true_class[pairs[0]], shared[pairs] / union[pairs], minlength=num_classes),
        tp=np.bincount(true_class[found], minlength=num_classes),
        fp=np.bincount(pred_class[spurious], minlength=num_classes),
        fn=np.bincount(true_class[missed], minlength=num_classes),
    )


def class_quality(matches: Matches) -> np.ndarray:
    """Return PQ, SQ and RQ of each class, ``(3, K)``, from 0 to 1; NaN for a class that is neither in the truth nor predicted."""
    with np.errstate(invalid='ignore'):  # 0 / 0
        seen = matches.tp + (matches.fp + matches.fn) / 2
        sq = np.where(seen > 0, matches.iou / np.maximum(matches.tp, 1), np.nan)
        return np.stack((matches.iou / seen, sq, matches.tp / seen))


def mean_quality(matches: Matches, chosen: Optional[np.ndarray] = None) -> Quality:
    """Return the means over the classes that are in the truth or predicted.

    Args:
        matches: The counts.
        chosen: The classes to average over, ``(K,)``, bool; all by default.

    Returns:
        The means.
    """
    quality = class_quality(matches)
    counted = ~np.isnan(quality[0]) if chosen is None else ~np.isnan(quality[0]) & chosen
    n = int(counted.sum())
    pq, sq, rq = quality[:, counted].mean(1).tolist() if n else [float('nan')] * 3
    return Quality(pq, sq, rq, n)
