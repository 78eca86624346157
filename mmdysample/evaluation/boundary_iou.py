"""Intersection over union at the boundaries of segments, in the forms that papers report. Arrays in, counts out."""

import math
from collections.abc import Callable

import cv2
import numpy as np

IGNORE = 255


def width_in_pixels(shape: tuple[int, ...], ratio: float) -> int:
    """The width of a boundary, as a share of the diagonal of an image of ``(H, W)`` pixels: at least one pixel."""
    return max(1, round(ratio * math.hypot(shape[0], shape[1])))


def boundary(mask: np.ndarray, width: int) -> np.ndarray:
    """The pixels of a mask that lie within a number of pixels from its contour, the image's border included.

    Distance is that of a king's moves, as in the authors' code of Boundary IoU, which erodes by 3x3 pixels.

    Args:
        mask: ``(H, W)``, bool.
        width: In pixels.

    Returns:
        ``(H, W)``, bool.
    """
    size = 2 * width + 1
    kernel = np.ones((size, size), np.uint8)
    inner = cv2.erode(mask.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return mask & ~inner.astype(bool)


def boundary_iou_counts(prediction: np.ndarray, truth: np.ndarray, classes: int, width: int) -> np.ndarray:
    """Boundary IoU (Cheng et al., CVPR 2021, https://arxiv.org/abs/2103.16562, eq. 2), for each class.

    Of each mask, only the band within ``width`` of its contour counts: the two bands are intersected and united.

    Args:
        prediction: Labels, ``(H, W)``, integer.
        truth: Likewise.
        classes: Their number.
        width: In pixels.

    Returns:
        Pixels in the intersection and in the union, ``(2, classes)``, int64: to be added up over images before they are divided.
    """
    counts = np.zeros((2, classes), np.int64)
    for label in np.union1d(np.unique(prediction), np.unique(truth)):
        if label < classes:
            ours, theirs = boundary(prediction == label, width), boundary(truth == label, width)
            counts[:, label] = (ours & theirs).sum(), (ours | theirs).sum()
    return counts


def at_predicted_boundary_counts(prediction: np.ndarray, truth: np.ndarray, classes: int, width: int) -> np.ndarray:
    """The variant that DySample, FADE and SAPA report as bIoU: plain IoU over the pixels at predicted boundaries.

    Read from the code that circulates with their releases: per class, the band within ``width`` of the contour of what is predicted; the
    confusion matrix is accumulated over the pixels in any such band. What is missed away from them costs nothing, so it is no Boundary
    IoU, and comparable only with itself. Arguments and result as in :func:`boundary_iou_counts`.
    """
    near = np.zeros(prediction.shape, bool)
    for label in np.unique(prediction):
        near |= boundary(prediction == label, width)
    return _iou_counts(prediction[near], truth[near], classes)


def near_boundary_counts(prediction: np.ndarray, truth: np.ndarray, classes: int, width: int) -> np.ndarray:
    """Plain IoU over the pixels within ``width`` of a true boundary, on either side of it: the "trimap" of Kohli et al. (IJCV 2009).

    The image's border is no boundary here. Arguments and result as in :func:`boundary_iou_counts`.
    """
    padded = np.pad(truth, width, mode='edge')
    near = np.zeros(padded.shape, bool)
    for label in np.unique(padded):
        near |= boundary(padded == label, width)
    near = near[width:-width, width:-width]
    return _iou_counts(prediction[near], truth[near], classes)


def _iou_counts(prediction: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    known = truth < classes
    prediction, truth = prediction[known], truth[known]
    areas = [np.bincount(labels, minlength=classes)[:classes] for labels in (prediction[prediction == truth], prediction, truth)]
    intersection, predicted, true = (area.astype(np.int64) for area in areas)
    return np.stack((intersection, predicted + true - intersection))


Counts = Callable[[np.ndarray, np.ndarray, int, int], np.ndarray]

# By the name of the metric: what counts, and the width of a boundary by default, as a share of the diagonal.
FORMS: dict[str, tuple[Counts, float]] = {
    'boundary_iou': (boundary_iou_counts, 0.02),
    'predicted_boundary_iou': (at_predicted_boundary_counts, 0.005),
    'near_boundary_iou': (near_boundary_counts, 0.02),
}
