import numpy as np
import pytest
import torch
from boundary_reference import CLASSES, IGNORE, case
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData

pytest.importorskip('mmseg')
from mmseg.structures import SegDataSample

from mmdysample.evaluation.image_counts import ImageCounts

META = dict(classes=('wall', 'chair', 'lamp', 'door', 'cat'))


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmseg')


def evaluate(metrics, pairs):
    evaluator = Evaluator(metrics)
    evaluator.dataset_meta = META
    samples = [
        SegDataSample(
            pred_sem_seg=PixelData(data=torch.from_numpy(prediction)[None]),
            gt_sem_seg=PixelData(data=torch.from_numpy(truth)[None]),
            metainfo=dict(img_path=f'folder/{i}.png'),
        )
        for i, (prediction, truth) in enumerate(pairs)
    ]
    for batch in (samples[:2], samples[2:]):
        evaluator.process(data_samples=batch, data_batch=None)
    return evaluator.evaluate(len(samples))


def scenes():
    """Every class occurs in truth and prediction, and is hit."""
    pairs = [case(13, 17), case(17, 33), case(11, 20)]
    prediction, truth = pairs[1]
    truth[3:6, 4:11], prediction[4:8, 5:13] = 4, 4
    truth[9:12, 4:11], prediction[10:13, 5:12] = 2, 2
    assert (pairs[0][1] == IGNORE).any()
    return pairs


def test_the_same_as_the_two_other_metrics():
    pairs = scenes()
    at_boundaries = dict(type='mmdysample.BoundaryIoUMetric', forms=['near_boundary_iou', 'boundary_iou'])
    others = evaluate([dict(type='IoUMetric'), at_boundaries], pairs)
    ours = evaluate(dict(type='mmdysample.SegmentationMetric'), pairs)
    for name in ('mIoU', 'near_boundary_iou', 'boundary_iou'):
        assert ours[name] == pytest.approx(others[name], abs=0.0051)
        assert 0 < ours[name] < 100
    parts = [ours[f'IoU.{name}'] for name in META['classes']]
    assert len({part for part in parts if part > 0}) == CLASSES
    assert sum(parts) / CLASSES == pytest.approx(ours['mIoU'], abs=0.0051)


def test_the_counts_of_each_image(tmp_path):
    pairs, path = scenes(), tmp_path / 'counts.csv'
    ours = evaluate(dict(type='mmdysample.SegmentationMetric', counts=str(path)), pairs)
    counts = ImageCounts.read(path)
    assert counts.images == ('0.png', '1.png', '2.png')
    assert counts.classes == META['classes']
    assert {name: round(value, 2) for name, value in counts.scores().items()} == ours
    for i, pair in enumerate(pairs):
        alone = evaluate(dict(type='mmdysample.SegmentationMetric'), [pair])
        part = ImageCounts(counts.images[i : i + 1], counts.classes, counts.counts[i : i + 1]).scores()
        assert {name: round(value, 2) for name, value in part.items()} == pytest.approx(alone, nan_ok=True)


def test_a_class_that_does_not_occur_is_in_no_mean():
    counts = np.zeros((1, 3, 2, 2), np.int64)
    counts[0, :, :, 0] = [[1, 4], [2, 4], [3, 4]]
    scores = ImageCounts(('a',), ('wall', 'chair'), counts).scores()
    assert scores == pytest.approx(
        {'mIoU': 25, 'near_boundary_iou': 50, 'boundary_iou': 75, 'IoU.wall': 25, 'IoU.chair': float('nan')}, nan_ok=True
    )


@pytest.mark.parametrize('text', ['', 'image\n', 'image,mIoU.a.intersection\nx,1\n', 'image,mIoU.a.union\nx,y\n'])
def test_a_damaged_file(tmp_path, text):
    path = tmp_path / 'counts.csv'
    path.write_text(text)
    with pytest.raises(ValueError, match=r'counts.csv is damaged'):
        ImageCounts.read(path)


def test_a_cut_file(tmp_path):
    path = tmp_path / 'counts.csv'
    counts = ImageCounts(('a', 'b'), ('wall',), np.arange(12).reshape(2, 3, 2, 1))
    counts.write(path)
    assert (ImageCounts.read(path).counts == counts.counts).all()
    path.write_text(path.read_text()[:-4])
    with pytest.raises(ValueError, match=r'counts.csv is damaged'):
        ImageCounts.read(path)
