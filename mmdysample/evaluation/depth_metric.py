"""The nine metrics of monocular depth estimation."""

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
from torch import Tensor

from mmdysample.frameworks import require
from mmdysample.registry import METRICS

require('mmseg', 'mmdysample.DepthMetric')

from mmseg.evaluation.metrics import DepthMetric as StockDepthMetric  # noqa: E402


@METRICS.register_module()
class DepthMetric(StockDepthMetric):
    """mmseg's depth metrics with SILog as papers define it.

    mmseg's ``silog`` is that of the loss, ``sqrt(mean(d^2) - mean(d)^2 / 2)``, where ``d`` is the difference of logarithms. KITTI's
    benchmark, and papers on NYU Depth V2 that follow BTS (https://arxiv.org/abs/1907.10326), subtract the whole squared mean and report a
    percentage: ``100 * sqrt(mean(d^2) - mean(d)^2)``, which is 0 for a depth that is right up to its scale. This class computes the latter.

    The metrics of an image are computed in float64 when the image is processed, so that only nine numbers per image are kept, not its
    depths. An image without a valid pixel is left out of the means, where mmseg would return NaN. A NaN in a prediction still gives NaN.

    Args:
        depth_metrics: Names of metrics, all nine by default. mmseg 1.2.2 fails if this argument is given.
        kwargs: As in mmseg's metric: ``min_depth_eval``, ``max_depth_eval``, ``crop_type`` (``'nyu_crop'`` is that of Eigen et al.),
            ``output_dir``, ...

    Raises:
        ValueError: A name is unknown.
    """

    def __init__(self, depth_metrics: Optional[Sequence[str]] = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.metrics = tuple(depth_metrics or self.METRICS)
        unknown = [name for name in self.metrics if name not in self.METRICS]
        if unknown:
            raise ValueError(f'depth_metrics may be {", ".join(self.METRICS)}, got {", ".join(unknown)}')

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Compute the metrics of each image.

        Args:
            data_batch: The batch of the data loader; not used.
            data_samples: Samples with ``gt_depth_map`` and ``pred_depth_map``, each with ``data`` in metres, ``(1, H, W)``.
        """
        first = len(self.results)
        super().process(data_batch, data_samples)
        # An image without a valid pixel gets an empty dict, because with several processes mmengine expects one result per image.
        self.results[first:] = [self._calc_all_metrics(*depths) if len(depths[0]) else {} for depths in self.results[first:]]

    @staticmethod
    def _calc_all_metrics(gt_depth: Tensor, pred_depth: Tensor) -> dict[str, float]:
        """Return the metrics of an image from the depths ``(N,)`` of its valid pixels."""
        # MPS has no float64.
        gt_depth, pred_depth = (depth.cpu().double() for depth in (gt_depth, pred_depth))
        difference = pred_depth.log() - gt_depth.log()
        metrics = StockDepthMetric._calc_all_metrics(gt_depth, pred_depth)
        return {**metrics, 'silog': 100 * difference.var(unbiased=False).sqrt().item()}

    def compute_metrics(self, results: list[dict[str, float]]) -> dict[str, float]:
        """Return the metrics, averaged over the images.

        Args:
            results: The metrics of each image; an empty dict for an image without a valid pixel.

        Returns:
            The means by mmseg's names; NaN if no image has a valid pixel, or if a prediction is NaN.
        """
        if self.format_only:
            return super().compute_metrics(results)
        seen = [result for result in results if result]
        return {name: float(np.mean([result[name] for result in seen])) if seen else float('nan') for name in self.metrics}
