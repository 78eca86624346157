from types import SimpleNamespace

import numpy as np
import torch

from mmdysample.analysis.predictions import _draw


def test_a_panoptic_prediction_of_void_alone_is_drawn_as_the_image():
    """mmdet's drawing fails for want of a segment."""
    runner = SimpleNamespace(visualizer=SimpleNamespace(dataset_meta=dict(classes=('a', 'b', 'c'))))
    sample = SimpleNamespace(pred_panoptic_seg=SimpleNamespace(sem_seg=torch.full((1, 5, 7), 3)))
    image = np.ones((5, 7, 3), np.uint8)
    assert _draw(runner, image, sample, 0.5, truth=False) is image
