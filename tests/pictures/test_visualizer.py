import numpy as np
import pytest
import torch
from mmengine.registry import VISUALIZERS, init_default_scope

pytest.importorskip('mmdet')
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData


@pytest.mark.parametrize('segment', [False, True])
def test_a_panoptic_prediction_of_void_alone_is_the_image(segment):
    init_default_scope('mmdet')
    visualizer = VISUALIZERS.build(dict(type='mmdysample.DetLocalVisualizer', name=f'void-{segment}'))
    visualizer.dataset_meta = dict(classes=('a', 'b', 'c'), palette=[(255, 0, 0), (0, 255, 0), (0, 0, 255)])
    pred = torch.full((1, 31, 47), 3)
    if segment:
        pred[:, 5:20, 7:30] = 1
    image = np.full((31, 47, 3), 90, np.uint8)
    sample = DetDataSample(pred_panoptic_seg=PixelData(sem_seg=pred))
    visualizer.add_datasample('', image, sample, draw_gt=False)
    assert np.array_equal(visualizer.get_image(), image) is not segment


def test_panoptic_truth_has_one_label_for_each_segment(monkeypatch):
    """mmdet itself draws instances and the label map one over the other, each with labels."""
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    init_default_scope('mmdet')
    visualizer = VISUALIZERS.build(dict(type='mmdysample.DetLocalVisualizer', name='truth'))
    visualizer.dataset_meta = dict(classes=('a', 'b', 'c'), palette=[(255, 0, 0), (0, 255, 0), (0, 0, 255)])
    labels = np.full((1, 31, 47), 2)
    masks = np.zeros((2, 31, 47), np.uint8)
    masks[0, 3:15, 4:20] = masks[1, 3:15, 20:40] = 1  # two things of one class that touch
    labels[0, 3:15, 4:40] = 1
    labels[0, 25:] = 255  # ignored
    boxes = torch.tensor([[4.0, 3, 20, 15], [20, 3, 40, 15]])
    instances = InstanceData(bboxes=boxes, labels=torch.tensor([1, 1]), masks=BitmapMasks(masks, 31, 47))
    sample = DetDataSample(gt_instances=instances, gt_sem_seg=PixelData(sem_seg=torch.from_numpy(labels)))
    drawn = []
    monkeypatch.setattr(visualizer, 'draw_texts', lambda text, *_, **__: drawn.append(text))
    visualizer.add_datasample('', np.full((31, 47, 3), 90, np.uint8), sample, draw_pred=False)
    assert sorted(drawn) == ['b', 'b', 'c']
    assert 'gt_instances' in sample  # what was given stays as it was
