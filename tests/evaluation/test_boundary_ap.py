import json

import numpy as np
import pytest
from conftest import ROOT
from mmengine import Config
from mmengine.registry import METRICS, init_default_scope
from pycocotools import mask as coco

pytest.importorskip('mmdet')
pytest.importorskip('faster_coco_eval')

from mmdysample.evaluation.boundary_ap import BoundaryAPMetric
from mmdysample.evaluation.boundary_iou import boundary_iou_counts, width_in_pixels

SIZE = 120, 160
SQUARES = {1: [(10, 20, 30)], 2: [(40, 50, 40), (5, 90, 25)]}  # by image: top, left, side


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdet')


def square(top, left, side):
    mask = np.zeros(SIZE, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def encoded(mask):
    rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {'size': rle['size'], 'counts': rle['counts'].decode()}


@pytest.fixture
def ann_file(tmp_path):
    return written(SQUARES, tmp_path / 'instances.json')


def written(squares_of, path):
    """Write a COCO file of squares by image."""
    annotations = []
    for image, squares in squares_of.items():
        for top, left, side in squares:
            annotations.append(
                dict(
                    image_id=image,
                    category_id=1,
                    iscrowd=0,
                    area=side * side,
                    bbox=[left, top, side, side],
                    segmentation=encoded(square(top, left, side)),
                    id=len(annotations) + 1,
                )
            )
    images = [dict(id=image, file_name=f'{image}.png', height=SIZE[0], width=SIZE[1]) for image in squares_of]
    path.write_text(json.dumps(dict(info={}, images=images, annotations=annotations, categories=[dict(id=1, name='nucleus')])))
    return path


def evaluate(ann_file, predicted, type='mmdysample.BoundaryAPMetric', **kwargs):
    """From the squares of each image, each with a score."""
    metric = METRICS.build(dict(type=type, ann_file=str(ann_file), **kwargs))
    metric.dataset_meta = dict(classes=('nucleus',))
    for image, squares in predicted.items():
        masks = [coco.encode(np.asfortranarray(square(*one).astype(np.uint8))) for one in squares]
        boxes = np.array([[left, top, left + side, top + side] for top, left, side in squares], float).reshape(-1, 4)
        scores = np.linspace(0.9, 0.8, len(squares))
        result = dict(img_id=image, bboxes=boxes, scores=scores, labels=np.zeros(len(squares), int), masks=masks)
        metric.results.append((dict(width=SIZE[1], height=SIZE[0], img_id=image), result))
    return metric.compute_metrics(metric.results)


def test_perfect(ann_file):
    assert evaluate(ann_file, SQUARES) == {'boundary_mAP': 1, 'boundary_mAP_50': 1, 'boundary_mAP_75': 1}


@pytest.mark.parametrize('shift', [1, 2, 3, 5])
def test_shifted_squares(ann_file, shift):
    """A square is found at the thresholds up to its Boundary IoU, by our own function; the plain IoU of these is larger."""
    width = width_in_pixels(SIZE, 0.02)
    assert width == 4
    predicted = {image: [(top, left + shift, side) for top, left, side in squares] for image, squares in SQUARES.items()}
    ious = []
    for image, squares in SQUARES.items():
        for truth, ours in zip(squares, predicted[image]):
            counts = boundary_iou_counts(square(*ours).astype(int), square(*truth).astype(int), 2, width)[:, 1]
            ious.append(counts[0] / counts[1])
            assert (square(*ours) & square(*truth)).sum() / (square(*ours) | square(*truth)).sum() > ious[-1]
    found = evaluate(ann_file, predicted)
    assert found['boundary_mAP_50'] == pytest.approx(ap([iou >= 0.5 for iou in ious]))
    assert found['boundary_mAP_75'] == pytest.approx(ap([iou >= 0.75 for iou in ious]))


def ap(hits):
    """COCO's AP of three objects and three predictions, of which all or none are hits here."""
    assert len(set(hits)) == 1
    return float(hits[0])


def test_every_ap_of_the_nuclei_takes_100_detections(tmp_path, monkeypatch):
    """Of 156 objects, all found, 100 count: a recall of 0.64, which is 65 of the 101 steps of COCO's AP."""
    monkeypatch.setenv('NUCLEI_ROOT', str(tmp_path))
    crowd = {1: [(2 + 10 * row, 2 + 12 * column, 6) for row in range(12) for column in range(13)]}
    ann_file = written(crowd, tmp_path / 'crowd.json')
    found = {}
    for metric in Config.fromfile(ROOT / 'configs/nuclei/nuclei_instances.py').test_evaluator:
        assert metric.pop('ann_file') == f'{tmp_path}/annotations/instances_val.json'
        found |= evaluate(ann_file, crowd, **metric)
    names = [f'{kind}_mAP{threshold}' for kind in ('bbox', 'segm', 'boundary') for threshold in ('', '_75')]
    assert [found[name] for name in names] == pytest.approx([65 / 101] * 6, abs=0.0005)


def test_nothing_predicted(ann_file):
    assert evaluate(ann_file, {1: [], 2: []}) == {}


def test_no_file():
    with pytest.raises(ValueError, match='BoundaryAPMetric needs ann_file'):
        BoundaryAPMetric()


def test_without_the_library(ann_file, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'faster_coco_eval', None)
    with pytest.raises(ImportError, match='pip install faster-coco-eval'):
        BoundaryAPMetric(str(ann_file))
