"""Every evaluator reads annotations as the check has mended them, whatever the order of the evaluators."""

import numpy as np
import pytest
from coco_folders import BOXES, HEIGHT, WIDTH, config, polygon, put, take, write

pytest.importorskip('mmdet')
pytest.importorskip('faster_coco_eval')
from mmdet.evaluation import CocoMetric
from mmengine.registry import METRICS, init_default_scope
from pycocotools import mask as coco

from mmdysample.datasets.check import check_data
from mmdysample.datasets.coco.api import use_prepared_coco


class Derived(CocoMetric):
    """A metric of a user."""


KINDS = ('CocoMetric', 'mmdysample.BoundaryAPMetric', 'mmdysample.BoundaryAPMetric', 'DerivedCocoMetric')
FAULTS = {
    'none': (lambda values, folder: None, None),
    'ids from 0': (put('annotations', 'id', lambda a: a['id'] - 1), None),
    'one id': (put('annotations', 'id', 3), None),
    'ids as text': (put('annotations', 'id', lambda a: str(a['id'])), None),
    'image ids as text': (put('annotations', 'image_id', lambda a: str(a['image_id'])), None),
    'flat polygons': (put('annotations', 'segmentation', lambda a: a['segmentation'][0]), None),
    'no crowds': (take('annotations', 'iscrowd'), None),
    'no boxes': (take('annotations', 'bbox'), None),
    'byte order mark': (lambda values, folder: None, lambda content: b'\xef\xbb\xbf' + content.encode()),
}


@pytest.fixture(autouse=True)
def _derived():
    init_default_scope('mmdet')
    METRICS.register_module('DerivedCocoMetric', force=True, module=Derived)
    yield
    METRICS.module_dict.pop('DerivedCocoMetric')


def evaluate(metric):
    """From perfect predictions."""
    metric.dataset_meta = dict(classes=('cat', 'dog'))
    masks = [coco.merge(coco.frPyObjects([polygon(*box)], HEIGHT, WIDTH)) for box in BOXES]
    boxes = np.array([[x, y, x + w, y + h] for x, y, w, h in BOXES], float)
    for image in (1, 2, 3):
        result = dict(img_id=image, bboxes=boxes, scores=np.array([0.9, 0.8]), labels=np.arange(2), masks=masks)
        metric.results.append((dict(width=WIDTH, height=HEIGHT, img_id=image), result))
    return metric.compute_metrics(metric.results)


@pytest.mark.parametrize('kinds', [KINDS, KINDS[::-1]], ids=['stock first', 'stock last'])
@pytest.mark.parametrize(('change', 'encode'), FAULTS.values(), ids=FAULTS)
def test_every_evaluator_reads_the_mended_annotations(tmp_path, change, encode, kinds):
    root = write(tmp_path, change, splits=('val',), **(dict(encode=encode) if encode else {}))
    loaded = config(root, masks=True, splits=('val',))
    stock = loaded.val_evaluator
    loaded.val_evaluator = [{**stock, 'type': kind} if 'Coco' in kind else dict(type=kind, ann_file=stock.ann_file) for kind in kinds]
    assert not [finding for finding in check_data(loaded, ('val',)) if finding.level != 'mended']
    use_prepared_coco()
    for metric in [METRICS.build(evaluator) for evaluator in loaded.val_evaluator]:
        for name, value in evaluate(metric).items():
            if not name.endswith(('_s', '_m', '_l')):
                assert value == pytest.approx(1.0, abs=0.0005), (type(metric).__name__, name)


def test_masks_are_checked_for_boundaries_alone(tmp_path):
    root = write(tmp_path, put('annotations', 'segmentation', None, only=1), splits=('val',))
    loaded = config(root, splits=('val',))
    assert check_data(loaded, ('val',)) == []
    loaded.val_evaluator = dict(type='mmdysample.BoundaryAPMetric', ann_file=loaded.val_evaluator.ann_file)
    (finding,) = check_data(loaded, ('val',))
    assert 'without a usable segmentation' in str(finding)
