"""PQ, SQ and RQ of a panoptic model without panopticapi."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Optional

import mmcv
import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.fileio import get, get_local_path
from mmengine.logging import MMLogger

from mmdysample.datasets.panoptic import rgb_to_id
from mmdysample.frameworks import require
from mmdysample.registry import METRICS

from .panoptic_quality import Matches, Segments, class_quality, match_segments, mean_quality

require('mmdet', 'mmdysample.CocoPanopticMetric')

from mmdet.datasets import api_wrappers  # noqa: E402
from mmdet.evaluation import INSTANCE_OFFSET  # noqa: E402
from mmdet.evaluation.metrics.coco_panoptic_metric import CocoPanopticMetric as StockCocoPanopticMetric  # noqa: E402
from mmdet.evaluation.metrics.coco_panoptic_metric import parse_pq_results, print_panoptic_table  # noqa: E402

PANOPTICAPI = 'pip install git+https://github.com/cocodataset/panopticapi.git'


class CocoPanopticMetric(BaseMetric):
    """Replacement of mmdet's metric of the same name, with the same results, for use without panopticapi.

    mmdet's metric needs panopticapi, which is on no package index. In a config, ``type='mmdysample.CocoPanopticMetric'`` is mmdet's metric
    if panopticapi is installed, and this class otherwise. It scores each image as it is predicted and writes no files.

    Args:
        ann_file: The file of panoptic annotations in COCO's format.
        seg_prefix: The folder of their PNG files.
        classwise: Whether to also print a table of all classes.
        format_only: Not supported, because writing files for COCO's server needs panopticapi.
        outfile_prefix: Not supported, for the same reason.
        nproc: Unused; the number of processes in mmdet.
        backend_args: The storage of the annotations, see :func:`mmengine.fileio.get`.
        collect_device: As in :class:`mmengine.evaluator.BaseMetric`.
        prefix: The prefix of the names of the results, ``'coco_panoptic'`` by default.

    Raises:
        ValueError: ``ann_file`` or ``seg_prefix`` is missing, or ``format_only`` or ``outfile_prefix`` is set.
    """

    default_prefix: Optional[str] = 'coco_panoptic'

    def __init__(
        self,
        ann_file: Optional[str] = None,
        seg_prefix: Optional[str] = None,
        classwise: bool = False,
        format_only: bool = False,
        outfile_prefix: Optional[str] = None,
        nproc: int = 32,
        backend_args: Optional[dict] = None,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if format_only or outfile_prefix:
            raise ValueError(f'format_only and outfile_prefix of CocoPanopticMetric need panopticapi. Run: {PANOPTICAPI}')
        if not ann_file or not seg_prefix:
            raise ValueError(f'CocoPanopticMetric needs ann_file and seg_prefix, got {ann_file=}, {seg_prefix=}')
        self.seg_prefix = seg_prefix
        self.classwise = classwise
        self.backend_args = backend_args
        with get_local_path(ann_file, backend_args=backend_args) as path:
            self.truth = api_wrappers.COCOPanoptic(path)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the matched segments of a batch.

        Args:
            data_batch: Unused.
            data_samples: Samples with ``img_id`` and ``pred_panoptic_seg``, whose ``sem_seg`` is ``(1, H, W)``: class + 1000 * instance.
        """
        for sample in data_samples:
            truth = self._true_segments(sample['img_id'])
            self.results.append(match_segments(self._predicted_segments(sample['pred_panoptic_seg']), truth, len(self._class_of())))

    def _class_of(self) -> dict[int, int]:
        """Return the class index of each category id, numbered as in mmdet."""
        return {category: i for i, category in enumerate(self.truth.get_cat_ids(cat_names=self.dataset_meta['classes']))}

    def _true_segments(self, image_id: int) -> Segments:
        class_of = self._class_of()
        path = Path(self.seg_prefix) / self.truth.imgs[image_id]['segm_file']
        annotations = [a for a in self.truth.imgToAnns[image_id] if a['category_id'] in class_of]
        rgb = mmcv.imfrombytes(get(str(path), backend_args=self.backend_args), flag='color', channel_order='rgb')
        return Segments(
            ids=rgb_to_id(rgb),
            classes={a['id']: class_of[a['category_id']] for a in annotations},
            crowd=frozenset(a['id'] for a in annotations if a.get('iscrowd')),
        )

    def _predicted_segments(self, prediction: dict) -> Segments:
        num_classes = len(self.dataset_meta['classes'])
        void = {num_classes, prediction.get('ignore_index', num_classes)}
        ids = prediction['sem_seg'].cpu().numpy()[0]
        classes = {i: i % INSTANCE_OFFSET for i in np.unique(ids).tolist()}
        return Segments(ids, {i: label for i, label in classes.items() if label not in void})

    def compute_metrics(self, results: list[Matches]) -> dict[str, float]:
        """Return the quality, averaged over classes.

        Args:
            results: The counts of each image.

        Returns:
            Percentages by mmdet's names: ``PQ``, ``SQ`` and ``RQ`` of all classes, with the suffix ``_th`` of things, and ``_st`` of stuff.
        """
        total = Matches(*(np.sum(counts, axis=0) for counts in zip(*results)))
        thing = np.array([bool(self.truth.cats[category]['isthing']) for category in self._class_of()])
        groups = {'All': None, 'Things': thing, 'Stuff': ~thing}
        found = {name: mean_quality(total, chosen)._asdict() for name, chosen in groups.items()}
        by_class = dict(zip(self.dataset_meta['classes'], (dict(zip(('pq', 'sq', 'rq'), row)) for row in class_quality(total).T)))
        print_panoptic_table(found, by_class if self.classwise else None, MMLogger.get_current_instance())
        return parse_pq_results(found)


METRICS.register_module('CocoPanopticMetric', module=CocoPanopticMetric if find_spec('panopticapi') is None else StockCocoPanopticMetric)
