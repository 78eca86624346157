"""IoU at boundaries as a metric for mmseg."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
from mmengine.evaluator import BaseMetric

from mmdysample.frameworks import require
from mmdysample.registry import METRICS

from .boundary_iou import FORMS, IGNORE, mean_iou, width_in_pixels

require('mmseg', 'mmdysample.BoundaryIoUMetric')


@METRICS.register_module()
class BoundaryIoUMetric(BaseMetric):
    """Mean IoU at boundaries, in the variants of :mod:`~mmdysample.evaluation.boundary_iou`.

    - ``boundary_iou``: Boundary IoU as its paper defines it.
    - ``predicted_boundary_iou``: the bIoU in the tables of FADE, SAPA and DySample, according to public code.
    - ``near_boundary_iou``: IoU within a band around true boundaries.

    Unlabelled pixels are ignored. Each value is in percent: counts are summed over all images, divided for each class, and averaged over
    the classes that occur.

    Args:
        forms: The variants to compute: a sequence of names, with the widths of the papers (0.02, 0.005 and 0.02), or a mapping from names
            to widths. A width is a fraction of the image's diagonal.
        ignore_index: The label of unlabelled pixels.
        kwargs: As in mmengine's metrics: ``prefix``, ``collect_device``.

    Raises:
        ValueError: ``forms`` is empty or has an unknown name, or a width is not between 0 and 1.
    """

    def __init__(
        self,
        forms: Sequence[str] | Mapping[str, float] = ('boundary_iou', 'predicted_boundary_iou'),
        ignore_index: int = IGNORE,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        names = [forms] if isinstance(forms, str) else list(forms)
        unknown = [name for name in names if name not in FORMS]
        if unknown or not names:
            raise ValueError(f'forms may be {", ".join(FORMS)}, got {", ".join(map(str, unknown)) or "none"}')
        self.ratios = {name: forms[name] if isinstance(forms, Mapping) else FORMS[name][1] for name in names}
        for name, ratio in self.ratios.items():
            if not (isinstance(ratio, (int, float)) and 0 < ratio < 1):
                raise ValueError(f"the width of {name} must be a fraction of the image's diagonal, above 0 and below 1, got {ratio!r}")
        self.ignore_index = ignore_index

    def process(self, data_batch: Optional[dict], data_samples: Sequence[dict]) -> None:
        """Count the pixels of each image.

        Args:
            data_batch: The batch of the data loader; not used.
            data_samples: Samples with ``gt_sem_seg`` and ``pred_sem_seg``, each with ``data``, labels, ``(1, H, W)``.
        """
        classes = len(self.dataset_meta['classes'])
        for sample in data_samples:
            prediction, truth = (sample[key]['data'].squeeze(0).cpu().numpy().astype(np.int64) for key in ('pred_sem_seg', 'gt_sem_seg'))
            unlabelled = truth == self.ignore_index
            # The same label, which is no class, in both maps puts unlabelled pixels outside every mask.
            prediction, truth = (np.where(unlabelled, max(IGNORE, classes), labels) for labels in (prediction, truth))
            self.results.append((str(sample.get('img_path', '')), self.count(prediction, truth, classes)))

    def count(self, prediction: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
        """Return the counts of an image, ``(forms, 2, classes)``, int64, of labels ``(H, W)``."""
        widths = {name: width_in_pixels(truth.shape, ratio) for name, ratio in self.ratios.items()}
        return np.stack([FORMS[name][0](prediction, truth, classes, width) for name, width in widths.items()])

    def compute_metrics(self, results: list[tuple[str, np.ndarray]]) -> dict[str, float]:
        """Return the mean over classes of the summed counts.

        Args:
            results: The file and the counts of each image, ``(forms, 2, classes)``.

        Returns:
            Percentages by the names of the variants; NaN if no class occurs.
        """
        means = mean_iou(np.sum([counts for _, counts in results], axis=0))
        return {name: round(100 * float(mean), 2) for name, mean in zip(self.ratios, means)}
