"""Drawing of predictions."""

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
    """mmdet's visualizer, with panoptic labels as they should be.

    It also draws a panoptic prediction without a segment, as an early one may be; and panoptic truth as it draws a prediction, not first
    as instances and then as a label map, each with labels of its own over those of the other.
    """

    def add_datasample(
        self, name: str, image: np.ndarray, data_sample: Any = None, draw_gt: bool = True, *args: Any, **kwargs: Any
    ) -> None:
        """Draw a sample; see mmdet's."""
        if draw_gt and data_sample is not None:
            data_sample = _with_panoptic_truth(data_sample, len(self.dataset_meta.get('classes') or ()))
        super().add_datasample(name, image, data_sample, draw_gt, *args, **kwargs)

    def _draw_panoptic_seg(self, image: np.ndarray, panoptic_seg: Any, classes: list[str], *palette: Any) -> np.ndarray:
        if (panoptic_seg.sem_seg == len(classes)).all():
            return image
        return super()._draw_panoptic_seg(image, panoptic_seg, classes, *palette)


def _with_panoptic_truth(sample: Any, classes: int) -> Any:
    """A sample whose annotations of things and stuff are one, in mmdet's form of a prediction."""
    if 'gt_sem_seg' not in sample or 'masks' not in sample.get('gt_instances', {}):
        return sample
    truth = ground_truth(sample, classes)
    assert isinstance(truth, LabelMap)
    sample = sample.clone()
    del sample.gt_instances, sample.gt_sem_seg
    sample.gt_panoptic_seg = PixelData(sem_seg=np.where(truth.labels < 0, classes, truth.segments)[None])
    return sample
