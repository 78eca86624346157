"""A visualizer for mmdet with correct panoptic labels."""

from typing import Any

import numpy as np
from mmengine.structures import PixelData

from mmdysample.frameworks import require
from mmdysample.registry import VISUALIZERS

from .contents import LabelMap, ground_truth

require('mmdet', 'mmdysample.DetLocalVisualizer')

from mmdet.visualization import DetLocalVisualizer as StockDetLocalVisualizer  # noqa: E402


@VISUALIZERS.register_module()
class DetLocalVisualizer(StockDetLocalVisualizer):
    """mmdet's visualizer with correct panoptic labels.

    It also draws a panoptic prediction without any segment, which an untrained model may give. It draws the panoptic ground truth like a
    prediction; mmdet draws instances and then a class map, whose labels cover each other.
    """

    def add_datasample(
        self, name: str, image: np.ndarray, data_sample: Any = None, draw_gt: bool = True, *args: Any, **kwargs: Any
    ) -> None:
        """Draw a data sample; the arguments are those of mmdet's visualizer."""
        if draw_gt and data_sample is not None:
            data_sample = _with_panoptic_truth(data_sample, len(self.dataset_meta.get('classes') or ()))
        super().add_datasample(name, image, data_sample, draw_gt, *args, **kwargs)

    def _draw_panoptic_seg(self, image: np.ndarray, panoptic_seg: Any, classes: list[str], *palette: Any) -> np.ndarray:
        if (panoptic_seg.sem_seg == len(classes)).all():
            return image
        return super()._draw_panoptic_seg(image, panoptic_seg, classes, *palette)


def _with_panoptic_truth(sample: Any, classes: int) -> Any:
    """Return a sample with the annotations of things and stuff joined, in mmdet's format of a panoptic prediction."""
    if 'gt_sem_seg' not in sample or 'masks' not in sample.get('gt_instances', {}):
        return sample
    truth = ground_truth(sample, classes)
    assert isinstance(truth, LabelMap)
    sample = sample.clone()
    del sample.gt_instances, sample.gt_sem_seg
    sample.gt_panoptic_seg = PixelData(sem_seg=np.where(truth.labels < 0, classes, truth.segments)[None])
    return sample
