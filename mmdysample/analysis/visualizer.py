"""Drawing of predictions."""

from typing import Any

import numpy as np

from mmdysample.frameworks import require
from mmdysample.registry import VISUALIZERS

require('mmdet', 'mmdysample.DetLocalVisualizer')

from mmdet.visualization import DetLocalVisualizer as StockDetLocalVisualizer  # noqa: E402


@VISUALIZERS.register_module()
class DetLocalVisualizer(StockDetLocalVisualizer):
    """mmdet's visualizer, which also draws a panoptic prediction without a segment, as an early one may be."""

    def _draw_panoptic_seg(self, image: np.ndarray, panoptic_seg: Any, classes: list[str], *palette: Any) -> np.ndarray:
        if (panoptic_seg.sem_seg == len(classes)).all():
            return image
        return super()._draw_panoptic_seg(image, panoptic_seg, classes, *palette)
