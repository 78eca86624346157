"""Boundary AP of instance masks."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Optional

import numpy as np

from mmdysample.frameworks import require
from mmdysample.registry import METRICS

require('mmdet', 'mmdysample.BoundaryAPMetric')

from mmdet.evaluation import CocoMetric  # noqa: E402

FASTER = 'faster-coco-eval'


@METRICS.register_module()
class BoundaryAPMetric(CocoMetric):
    """AP of instance masks by their Boundary IoU, as faster-coco-eval computes it, from 0 to 1: ``boundary_mAP``, ``_50`` and ``_75``.

    As in the paper (Cheng et al., CVPR 2021, https://arxiv.org/abs/2103.16562, section 4.2), the IoU of two masks is the smaller one of
    their plain IoU and that of their boundaries, whose width is 0.02 of the image's diagonal.

    Args:
        ann_file: The annotations, in COCO's format.
        collect_device: Where the results of several processes are gathered, ``'cpu'`` or ``'gpu'``.
        prefix: Written before the metrics' names; ``coco`` by default.

    Raises:
        ImportError: faster-coco-eval is not installed.
        ValueError: There is no ``ann_file``.
    """

    def __init__(self, ann_file: Optional[str] = None, collect_device: str = 'cpu', prefix: Optional[str] = None) -> None:
        try:
            import faster_coco_eval  # noqa: F401
        except ImportError:
            raise ImportError(f'mmdysample.BoundaryAPMetric needs {FASTER}: pip install {FASTER}') from None
        if ann_file is None:
            raise ValueError('mmdysample.BoundaryAPMetric needs ann_file, the annotations in the format of COCO')
        super().__init__(ann_file=ann_file, metric='segm', collect_device=collect_device, prefix=prefix)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Return AP, AP50 and AP75; an empty dict if no mask was predicted.

        Args:
            results: The annotations and predictions of each image.
        """
        from faster_coco_eval import COCO, COCOeval_faster

        self.cat_ids = self._coco_api.get_cat_ids(cat_names=self.dataset_meta['classes'])
        self.img_ids = self._coco_api.get_img_ids()
        predictions: Sequence[dict] = [prediction for _, prediction in results]
        if not any(len(prediction['scores']) for prediction in predictions):
            return {}
        # The annotations as mmdet has read them: the file itself may have faults that the check of the data has mended.
        read = self._coco_api.dataset
        copied = [dict(annotation) for annotation in read['annotations']]  # because the evaluation adds to them
        with TemporaryDirectory() as folder:
            files = self.results2json(predictions, str(Path(folder) / 'results'))
            truth = COCO({**read, 'annotations': copied})
            evaluation = COCOeval_faster(truth, truth.loadRes(files['segm']), 'boundary')
            evaluation.params.catIds, evaluation.params.imgIds = self.cat_ids, self.img_ids
            evaluation.params.maxDets = [1, 10, 100]  # as COCO's AP, also in mmdet
            evaluation.run()
        stats = np.asarray(evaluation.stats)
        return {'boundary_mAP': float(stats[0]), 'boundary_mAP_50': float(stats[1]), 'boundary_mAP_75': float(stats[2])}
