"""Plain IoU and IoU at boundaries together, with the counts of each image in a file."""

from pathlib import Path
from typing import Any, Optional

import numpy as np

from mmdysample.registry import METRICS

from .boundary_iou import iou_counts
from .boundary_metric import BoundaryIoUMetric
from .image_counts import ImageCounts


@METRICS.register_module()
class SegmentationMetric(BoundaryIoUMetric):
    """mIoU, the IoU of each class, near-boundary mIoU and Boundary IoU, in percent.

    ``mIoU`` is that of mmseg's ``IoUMetric``; ``IoU.<class>`` are its parts. The other two are those of :class:`BoundaryIoUMetric`, whose
    conventions hold for all.

    Args:
        counts: A file for the counts of each image (:class:`~.image_counts.ImageCounts`), by which two models can be compared image by
            image; None to write none.
        kwargs: As in mmengine's metrics: ``prefix``, ``collect_device``; and ``ignore_index``.
    """

    def __init__(self, counts: Optional[str] = None, **kwargs: Any) -> None:
        super().__init__(('near_boundary_iou', 'boundary_iou'), **kwargs)
        self.file = Path(counts) if counts else None

    def count(self, prediction: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
        """Return the counts of an image, ``(3, 2, classes)``, int64, of labels ``(H, W)``."""
        return np.concatenate((iou_counts(prediction, truth, classes)[None], super().count(prediction, truth, classes)))

    def compute_metrics(self, results: list[tuple[str, np.ndarray]]) -> dict[str, float]:
        """Return the metrics, and write the counts of each image.

        Args:
            results: The file and the counts of each image, ``(3, 2, classes)``.

        Raises:
            OSError: The file of the counts cannot be written.
        """
        names = tuple(Path(name).name for name, _ in results)
        counts = ImageCounts(names, tuple(self.dataset_meta['classes']), np.stack([counts for _, counts in results]))
        if self.file is not None:
            counts.write(self.file)
        return {name: round(value, 2) for name, value in counts.scores().items()}
