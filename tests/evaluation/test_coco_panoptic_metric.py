import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import METRICS, init_default_scope

pytest.importorskip('mmdet')
from mmdet.evaluation.functional import panoptic_utils
from mmdet.evaluation.metrics import coco_panoptic_metric as stock

from mmdysample.datasets.panoptic import rgb_to_id
from mmdysample.evaluation.coco_panoptic_metric import CocoPanopticMetric

META = dict(
    classes=('circle', 'square', 'triangle', 'wall', 'ground'),
    thing_classes=('circle', 'square', 'triangle'),
    stuff_classes=('wall', 'ground'),
)


class PQStat:
    """What mmdet asks of panopticapi's class, for the matching of its own."""

    def __init__(self):
        self.counts = defaultdict(lambda: SimpleNamespace(iou=0.0, tp=0, fp=0, fn=0))

    def __getitem__(self, category):
        return self.counts[category]

    def __iadd__(self, other):
        for category, more in other.counts.items():
            mine = self.counts[category]
            mine.iou, mine.tp, mine.fp, mine.fn = mine.iou + more.iou, mine.tp + more.tp, mine.fp + more.fp, mine.fn + more.fn
        return self

    def pq_average(self, categories, isthing):
        rows = {}
        for i, category in categories.items():
            c = self.counts[i]
            seen = c.tp + 0.5 * c.fp + 0.5 * c.fn
            if seen and isthing in (None, category['isthing']):
                rows[i] = (c.iou / seen, c.iou / max(c.tp, 1), c.tp / seen)
        return dict(zip(('pq', 'sq', 'rq'), np.mean(list(rows.values()), 0)), n=len(rows)), {}


@pytest.fixture
def paths(shapes, tmp_path):
    """The validation scenes, with a crowd in every other one and a void corner."""
    content = json.loads((shapes / 'coco/annotations/panoptic_val2017.json').read_text())
    for annotation in content['annotations']:
        ids = cv2.imread(str(shapes / 'coco/annotations/panoptic_val2017' / annotation['file_name']))
        ids[:40, :30] = 0
        left = np.unique(rgb_to_id(ids[..., ::-1]), return_counts=True)
        areas = dict(zip(*(column.tolist() for column in left)))
        annotation['segments_info'] = [s | {'area': areas[s['id']]} for s in annotation['segments_info'] if s['id'] in areas]
        annotation['segments_info'][0]['iscrowd'] = annotation['image_id'] % 2
        (tmp_path / 'png').mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / 'png' / annotation['file_name']), ids)
    (tmp_path / 'panoptic.json').write_text(json.dumps(content))
    return dict(ann_file=str(tmp_path / 'panoptic.json'), seg_prefix=str(tmp_path / 'png'))


def samples(paths):
    """Predictions as a model makes them: the truth, moved, with the wrong class or void here and there."""
    rng = np.random.default_rng(1)
    for annotation in json.loads(Path(paths['ann_file']).read_text())['annotations']:
        ids = rgb_to_id(cv2.imread(f'{paths["seg_prefix"]}/{annotation["file_name"]}')[..., ::-1])
        pred = np.full(ids.shape, len(META['classes']), np.int32)
        for i, segment in enumerate(annotation['segments_info']):
            label = segment['category_id'] - 1 if rng.random() < 0.7 else int(rng.integers(3))
            pred[ids == segment['id']] = label if rng.random() < 0.9 and label > 2 else label + 1000 * (i + 1)
        pred = np.roll(pred, rng.integers(-4, 5, 2), (0, 1))
        yield dict(
            img_id=annotation['image_id'],
            img_path=annotation['file_name'],
            ori_shape=ids.shape,
            pred_panoptic_seg=dict(sem_seg=torch.from_numpy(pred)[None]),
        )


def evaluate(metric, paths):
    metric.dataset_meta = META
    data = list(samples(paths))
    for sample in data:
        metric.process({}, [sample])
    return metric.evaluate(len(data))


def test_it_agrees_with_mmdets(paths, monkeypatch):
    """mmdet's own class and matching, with panopticapi's few functions filled in."""

    def id_to_rgb(ids):
        return np.stack([ids >> shift & 255 for shift in (0, 8, 16)], -1)

    for name, value in dict(panopticapi=True, VOID=0, PQStat=PQStat, id2rgb=id_to_rgb, rgb2id=rgb_to_id).items():
        monkeypatch.setattr(stock, name, value)
    for name, value in dict(PQStat=PQStat, rgb2id=rgb_to_id).items():
        monkeypatch.setattr(panoptic_utils, name, value)
    expected = evaluate(stock.CocoPanopticMetric(**paths), paths)
    got = evaluate(CocoPanopticMetric(**paths, classwise=True), paths)
    assert got == pytest.approx(expected)
    assert list(got) == list(expected)
    assert all(5 < value < 95 for value in got.values())


def test_the_prediction_is_left_as_it_is(paths):
    metric = CocoPanopticMetric(**paths)
    metric.dataset_meta = META
    sample = next(samples(paths))
    before = sample['pred_panoptic_seg']['sem_seg'].clone()
    metric.process({}, [sample])
    assert torch.equal(sample['pred_panoptic_seg']['sem_seg'], before)


@pytest.mark.skipif(stock.panopticapi is not None, reason='with panopticapi it is the metric of mmdet')
def test_by_prefix_in_an_mmdet_config(paths):
    init_default_scope('mmdet')
    assert type(METRICS.build(dict(type='mmdysample.CocoPanopticMetric', **paths))) is CocoPanopticMetric


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(format_only=True), 'need panopticapi. Run: pip install'),
        (dict(outfile_prefix='x'), 'need panopticapi. Run: pip install'),
        (dict(seg_prefix=None), 'needs ann_file and seg_prefix, got'),
    ],
)
def test_what_it_cannot_do(paths, arguments, message):
    with pytest.raises(ValueError, match=message):
        CocoPanopticMetric(**{**paths, **arguments})
