import json
import shutil

import cv2
import numpy as np
import pytest
from mmengine.registry import init_default_scope
from pycocotools.coco import COCO

from mmdysample.datasets.shapes import STUFF, THINGS, render
from mmdysample.datasets.shapes_writer import VAL_START, ShapesSpec, ensure_shapes


def test_a_scene_is_the_same_every_time():
    a, b, other = render(3, seed=1), render(3, seed=1), render(3, seed=2)
    assert np.array_equal(a.image, b.image)
    assert np.array_equal(a.semantic, b.semantic)
    assert not np.array_equal(a.image, other.image)


def test_the_labels_of_a_scene_agree():
    for index in range(20):
        scene = render(index)
        things = scene.semantic < len(THINGS)
        assert np.array_equal(np.sum([i.mask for i in scene.instances], axis=0) == 1, things)  # every thing pixel belongs to one object
        for category, mask in scene.instances:
            assert (scene.semantic[mask] == category).all()
            assert np.ptp(scene.depth[mask]) == 0  # an object stands upright
        depths = [scene.depth[mask][0] for _, mask in scene.instances]
        assert depths == sorted(depths, reverse=True)
        assert set(np.unique(scene.semantic)) <= set(range(len(THINGS + STUFF)))


def test_thin_and_touching_shapes_are_in_it():
    """What a 3x3 erosion removes is thin; what a one-pixel dilation shares with another object touches it."""
    thin = touching = 0
    cross = np.ones((3, 3), np.uint8)
    for index in range(20):
        masks = [instance.mask.astype(np.uint8) for instance in render(index).instances]
        thin += sum((mask - cv2.morphologyEx(mask, cv2.MORPH_OPEN, cross)).sum() > 5 for mask in masks)
        grown = np.sum([cv2.dilate(mask, cross) for mask in masks], axis=0)
        touching += (grown > 1).any()
    assert thin >= 20
    assert touching >= 10


def test_coco_and_ade_layouts(shapes):
    for split, ade_split, count in (('train2017', 'training', 16), ('val2017', 'validation', 8)):
        coco = COCO(str(shapes / f'coco/annotations/instances_{split}.json'))
        panoptic = json.loads((shapes / f'coco/annotations/panoptic_{split}.json').read_text())
        assert len(coco.imgs) == len(panoptic['annotations']) == count
        for record in panoptic['annotations']:
            name = record['file_name']
            image = cv2.imread(str(shapes / 'coco' / split / name))
            assert np.array_equal(image, cv2.imread(str(shapes / 'ade/images' / ade_split / name)))
            semantic = cv2.imread(str(shapes / 'ade/annotations' / ade_split / name), cv2.IMREAD_UNCHANGED)
            ids = cv2.imread(str(shapes / f'coco/annotations/panoptic_{split}' / name))[..., ::-1].astype(int) @ [1, 256, 65536]
            assert set(np.unique(ids)) == {segment['id'] for segment in record['segments_info']}
            for segment in record['segments_info']:
                assert (semantic[ids == segment['id']] == segment['category_id']).all()
                assert segment['area'] == (ids == segment['id']).sum()
            annotations = coco.imgToAnns[record['image_id']]
            assert len(annotations) == sum(segment['category_id'] <= len(THINGS) for segment in record['segments_info'])
            for annotation in annotations:
                mask = coco.annToMask(annotation)
                x, y, w, h = annotation['bbox']
                assert mask[y : y + h, x : x + w].sum() == mask.sum() == annotation['area']
                assert (semantic[mask == 1] == annotation['category_id']).all()


def test_nyu_layout(shapes):
    nyu = pytest.importorskip('mmseg.datasets').NYUDataset
    loading = [dict(type='LoadImageFromFile'), dict(type='LoadDepthAnnotation', depth_rescale_factor=1e-3)]
    init_default_scope('mmseg')
    for split, start, count in (('train', 0, 16), ('test', VAL_START, 8)):
        prefix = dict(img_path=f'images/{split}', depth_map_path=f'annotations/{split}')
        dataset = nyu(data_root=str(shapes / 'nyu'), data_prefix=prefix, img_suffix='.png', pipeline=loading)
        assert len(dataset) == count
        for i in (0, count - 1):
            scene, sample = render(start + i), dataset[i]
            assert np.array_equal(sample['img'], scene.image[..., ::-1])
            np.testing.assert_allclose(sample['gt_depth_map'], scene.depth, rtol=0, atol=0.00051)
            assert sample['gt_depth_map'].max() == 10  # the wall, above the horizon


def test_a_set_from_before_there_was_depth_is_completed(tmp_path):
    root, spec = tmp_path / 'shapes', ShapesSpec(train=2, val=1)
    ensure_shapes(root, spec)
    before = {path.relative_to(root): path.read_bytes() for path in root.rglob('*') if path.is_file()}
    shutil.rmtree(root / 'nyu')
    kept = (root / 'shapes.json').stat().st_mtime_ns
    ensure_shapes(root, spec)
    assert {path.relative_to(root): path.read_bytes() for path in root.rglob('*') if path.is_file()} == before
    assert (root / 'shapes.json').stat().st_mtime_ns == kept
    assert (root / 'nyu').stat().st_mode & 0o777 == 0o755


def test_training_and_validation_scenes_differ(shapes):
    train, val = (cv2.imread(str(shapes / 'coco' / split / '000000.png')) for split in ('train2017', 'val2017'))
    assert not np.array_equal(train, val)


def test_what_is_there_is_left_alone(shapes):
    before = (shapes / 'shapes.json').stat().st_mtime_ns
    ensure_shapes(shapes, ShapesSpec(train=16, val=8))
    assert (shapes / 'shapes.json').stat().st_mtime_ns == before
    assert shapes.stat().st_mode & 0o777 == 0o755
    with pytest.raises(ValueError, match=r'does not hold the Shapes scenes .* Remove the folder, or set SHAPES_ROOT to another'):
        ensure_shapes(shapes, ShapesSpec(train=17, val=8))


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr('mmdysample.datasets.shapes_writer._instances', fail)
    with pytest.raises(KeyboardInterrupt):
        ensure_shapes(tmp_path / 'shapes', ShapesSpec(train=2, val=1))
    assert list(tmp_path.iterdir()) == []
