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
