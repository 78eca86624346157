import json

import cv2
import numpy as np
import pytest
from mmengine.registry import TRANSFORMS, init_default_scope

pytest.importorskip('mmdet')

from mmdysample.datasets.panoptic import LoadPanopticAnnotations, rgb_to_id


def test_colours_are_ids():
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    ids = rgb_to_id(rgb)
    for y in range(5):
        for x in range(7):
            r, g, b = map(int, rgb[y, x])
            assert ids[y, x] == r + 256 * g + 256**2 * b


def test_the_labels_of_a_scene(shapes):
    init_default_scope('mmdet')
    load = TRANSFORMS.build(dict(type='mmdysample.LoadPanopticAnnotations', with_bbox=False, with_label=False))
    assert type(load) is LoadPanopticAnnotations
    content = json.loads((shapes / 'coco/annotations/panoptic_val2017.json').read_text())
    for annotation in content['annotations']:
        things = [segment for segment in annotation['segments_info'] if segment['category_id'] <= 3]
        results = load(
            dict(
                seg_map_path=str(shapes / 'coco/annotations/panoptic_val2017' / annotation['file_name']),
                ori_shape=(128, 128),
                segments_info=[
                    dict(id=segment['id'], category=segment['category_id'] - 1, is_thing=segment in things)
                    for segment in annotation['segments_info']
                ],
            )
        )
        semantic = cv2.imread(str(shapes / 'ade/annotations/validation' / annotation['file_name']), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(results['gt_seg_map'], semantic - 1)
        assert results['gt_masks'].masks.sum((1, 2)).tolist() == [segment['area'] for segment in things]
