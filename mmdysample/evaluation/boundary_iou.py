"""Intersection over union at the boundaries of segments, in the variants that papers report, as functions of label arrays."""

import math
from collections.abc import Callable

import cv2
import numpy as np

IGNORE = 255


def width_in_pixels(shape: tuple[int, ...], ratio: float) -> int:
    """Return the width of a boundary in pixels, at least 1, from a fraction of the diagonal of an image of shape ``(H, W)``."""
    return max(1, round(ratio * math.hypot(shape[0], shape[1])))


def boundary(mask: np.ndarray, width: int) -> np.ndarray:
    """Return the pixels of a mask within a distance from its contour. The border of the image counts as contour.

    The distance is the Chebyshev distance, as in the authors' code of Boundary IoU, which erodes with a 3x3 kernel.

    Args:
        mask: ``(H, W)``, bool.
        width: The largest distance, in pixels.

    Returns:
        ``(H, W)``, bool.
    """
    size = 2 * width + 1
    kernel = np.ones((size, size), np.uint8)
    inner = cv2.erode(mask.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return mask & ~inner.astype(bool)


def boundary_iou_counts(prediction: np.ndarray, truth: np.ndarray, classes: int, width: int) -> np.ndarray:
    """Return the counts of Boundary IoU for each class (Cheng et al., CVPR 2021, https://arxiv.org/abs/2103.16562, eq. 2).

    Only the band of each mask within ``width`` of its contour counts. The IoU is that of the predicted and the true band.

    Args:
        prediction: Labels, ``(H, W)``, integer.
        truth: Labels, ``(H, W)``, integer.
        classes: The number of classes.
        width: The width of the band, in pixels.

    Returns:
        Pixels in the intersection and in the union, ``(2, classes)``, int64. Sum them over all images before dividing.
    """
    counts = np.zeros((2, classes), np.int64)
    for label in np.union1d(np.unique(prediction), np.unique(truth)):
        if label < classes:
            ours, theirs = boundary(prediction == label, width), boundary(truth == label, width)
            counts[:, label] = (ours & theirs).sum(), (ours | theirs).sum()
    return counts


def at_predicted_boundary_counts(prediction: np.ndarray, truth: np.ndarray, classes: int, width: int) -> np.ndarray:
    """Return the counts of the variant that DySample, FADE and SAPA report as bIoU: plain IoU over the pixels at predicted boundaries.

    This follows the code that circulates with their releases. It takes the band within ``width`` of the contour of each predicted class,
    and accumulates the confusion matrix over the pixels in any band. Objects that are missed away from these bands do not lower the value,
    so it is not Boundary IoU and is comparable only with itself. Arguments and result are those of :func:`boundary_iou_counts`.
    """
    near = np.zeros(prediction.shape, bool)
    for label in np.unique(prediction):
        near |= boundary(prediction == label, width)
    return iou_counts(prediction[near], truth[near], classes)


def near_boundary_counts(prediction: np.ndarray, truth: np.ndarray, classes: int, width: int) -> np.ndarray:
    """Return the counts of plain IoU over the pixels within ``width`` of a true boundary: the "trimap" of Kohli et al. (IJCV 2009).

    The pixels on both sides of a boundary count. The border of the image is not a boundary here. Arguments and result are those of
    :func:`boundary_iou_counts`.
    """
    padded = np.pad(truth, width, mode='edge')
    near = np.zeros(padded.shape, bool)
    for label in np.unique(padded):
        near |= boundary(padded == label, width)
    near = near[width:-width, width:-width]
    return iou_counts(prediction[near], truth[near], classes)


def iou_counts(prediction: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """Return the counts of plain IoU; arguments, of any shape, and result are those of :func:`boundary_iou_counts`."""
    known = truth < classes
    prediction, truth = prediction[known], truth[known]
    areas = [np.bincount(labels, minlength=classes)[:classes] for labels in (prediction[prediction == truth], prediction, truth)]
    intersection, predicted, true = (area.astype(np.int64) for area in areas)
    return np.stack((intersection, predicted + true - intersection))


def mean_iou(counts: np.ndarray) -> np.ndarray:
    """Return the mean over the classes that occur of the IoU, as a fraction.

    Args:
        counts: Summed counts, ``(..., 2, classes)``.

    Returns:
        ``(...)``, float64; NaN where no class occurs.
    """
    intersection, union = counts[..., 0, :], counts[..., 1, :]
    occurs = union > 0
    iou = np.where(occurs, intersection / np.where(occurs, union, 1), 0.0)
    number = occurs.sum(-1)
    return np.where(number > 0, iou.sum(-1) / np.where(number > 0, number, 1), np.nan)


Counts = Callable[[np.ndarray, np.ndarray, int, int], np.ndarray]

# For each metric: the function that counts, and the default width of a boundary as a fraction of the diagonal.
FORMS: dict[str, tuple[Counts, float]] = {
    'boundary_iou': (boundary_iou_counts, 0.02),
    'predicted_boundary_iou': (at_predicted_boundary_counts, 0.005),
    'near_boundary_iou': (near_boundary_counts, 0.02),
}
