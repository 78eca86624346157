"""Convert annotations and predictions of mmdet and mmseg to one form: objects, a class map or a depth map."""

from typing import Any, NamedTuple, Optional, Union

import numpy as np


class Objects(NamedTuple):
    """Separate objects, as of detection and instance segmentation."""

    boxes: np.ndarray  # (N, 4): left, top, right, bottom, in pixels of the image
    labels: np.ndarray  # (N,)
    scores: Optional[np.ndarray]  # (N,)
    masks: Optional[np.ndarray]  # (N, h, w), bool


class LabelMap(NamedTuple):
    """A class map, with the segment of each pixel."""

    labels: np.ndarray  # (h, w): the class; -1 for none
    segments: np.ndarray  # (h, w): the number of the segment


class DepthMap(NamedTuple):
    """A depth map."""

    metres: np.ndarray  # (h, w); NaN if unknown


Contents = Union[Objects, LabelMap, DepthMap]

THINGS = 1000  # mmdet encodes panoptic predictions as label + 1000 * number of the thing


def prediction(sample: Any, classes: int, score: float) -> Contents:
    """Return the prediction in a data sample.

    Args:
        sample: The data sample that ``test_step`` returned.
        classes: Number of classes; a label outside of ``0`` to ``classes - 1`` means no class.
        score: Minimum score of an object.

    Raises:
        ValueError: The sample has no prediction of a known kind.
    """
    if 'pred_panoptic_seg' in sample:
        ids = _array(sample.pred_panoptic_seg.sem_seg)[0]
        return LabelMap(_known(ids % THINGS, classes), ids)
    if 'pred_sem_seg' in sample:
        labels = _known(_array(_seg(sample.pred_sem_seg))[0], classes)
        return LabelMap(labels, labels)
    if 'pred_depth_map' in sample:
        return _depth(sample.pred_depth_map)
    if 'pred_instances' in sample and 'bboxes' in sample.pred_instances:
        return _objects(sample.pred_instances[sample.pred_instances.scores >= score])
    raise ValueError(f'cannot draw the predictions of this model: {", ".join(sample.keys())}')


def ground_truth(sample: Any, classes: int) -> Optional[Contents]:
    """Return the annotations of an image.

    Args:
        sample: A data sample of a test set.
        classes: Number of classes; a label outside of ``0`` to ``classes - 1`` means no class.

    Returns:
        The annotations, or None if there are none. Instance masks and a class map together give a class map with a segment per instance.
    """
    instances = sample.get('gt_instances')
    if 'gt_sem_seg' in sample:
        labels = _known(_array(_seg(sample.gt_sem_seg))[0], classes)
        segments = labels.astype(np.int64)
        masks = None if instances is None or 'masks' not in instances else _masks(instances.masks)
        for k, mask in enumerate([] if masks is None else masks):
            segments[mask] = THINGS * (k + 1) + labels[mask]
        return LabelMap(labels, segments)
    if 'gt_depth_map' in sample:
        return _depth(sample.gt_depth_map)
    return None if instances is None or 'bboxes' not in instances else _objects(instances)


def _objects(instances: Any) -> Objects:
    boxes = _array(getattr(instances.bboxes, 'tensor', instances.bboxes)).reshape(-1, 4)
    scores = _array(instances.scores) if 'scores' in instances else None
    masks = _masks(instances.masks) if 'masks' in instances else None
    return Objects(boxes, _array(instances.labels), scores, masks)


def _depth(depth: Any) -> DepthMap:
    metres = np.squeeze(_array(depth.data))
    return DepthMap(np.where(metres > 0, metres, np.nan))


def _known(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return labels with -1 for every value that is no class; mmdet and mmseg mark ignored pixels with 255."""
    labels = labels.astype(np.int64)
    return np.where((labels >= 0) & (labels < classes), labels, -1)


def _seg(pixel_data: Any) -> Any:
    return pixel_data.sem_seg if 'sem_seg' in pixel_data else pixel_data.data


def _masks(masks: Any) -> np.ndarray:
    return (masks.to_ndarray() if hasattr(masks, 'to_ndarray') else _array(masks)).astype(bool)


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if hasattr(values, 'detach') else np.asarray(values)
