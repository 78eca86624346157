"""The nuclei, from a clone of the public repository to COCO files and label maps."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from pycocotools import mask as coco

from mmdysample.datasets.nuclei import BACKGROUND, BORDER, INSIDE, find_samples, label_map, write_split
from mmdysample.datasets.nuclei_split import VALIDATION

DATA = ROOT / '../shared/data/nuclei'
TRAINED, VALIDATED = f'{"ab" * 6}{"0" * 52}', f'{min(VALIDATION)}{"1" * 52}'


def disc(shape, row, column, radius):
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def written_out(masks, shape):
    """The definition, pixel by pixel."""
    ids = np.zeros(shape, int)
    for number, mask in enumerate(masks, start=1):
        ids[mask] = number
    labels = np.full(shape, BACKGROUND, np.uint8)
    for row, column in np.ndindex(shape):
        beside = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        around = [ids[r, c] if 0 <= r < shape[0] and 0 <= c < shape[1] else 0 for r, c in beside]
        if any(other != ids[row, column] for other in around):
            labels[row, column] = BORDER
        elif ids[row, column]:
            labels[row, column] = INSIDE
    return labels


@pytest.mark.parametrize(
    'discs',
    [[], [(4, 5, 3)], [(4, 5, 3), (4, 10, 3)], [(4, 5, 3), (5, 8, 3)], [(0, 0, 4), (12, 16, 5)], [(6, 8, 0)]],
    ids=['none', 'one', 'touching', 'overlapping', 'at the edges', 'one pixel'],
)
def test_label_maps_are_as_defined(discs):
    shape = (13, 17)
    masks = [disc(shape, *each) for each in discs]
    assert np.array_equal(label_map(masks, shape), written_out(masks, shape))


def test_label_maps_of_the_real_images():
    """Those that come with the images, from the same masks."""
    if not DATA.is_dir():
        pytest.skip(f'the nuclei are not in {DATA}')
    content = json.loads((DATA / 'annotations/instances_val.json').read_text())
    masks = {}
    for annotation in content['annotations']:
        masks.setdefault(annotation['image_id'], []).append(coco.decode(annotation['segmentation']).astype(bool))
    for image in content['images'][:40]:
        expected = np.asarray(Image.open(DATA / 'labels/val' / image['file_name']))
        assert np.array_equal(label_map(masks.get(image['id'], []), expected.shape), expected), image['file_name']
    assert {path.stem for path in (DATA / 'val').iterdir()} == VALIDATION
    assert not {path.stem for path in (DATA / 'train').iterdir()} & VALIDATION


@pytest.fixture
def clone(tmp_path):
    """An image for training with two nuclei and an empty mask, one for validation, and a larger one."""
    root = tmp_path / 'clone/stage1_train'
    for name, size in ((TRAINED, (40, 30)), (VALIDATED, (30, 20)), ('f' * 64, (400, 30))):
        (root / name / 'images').mkdir(parents=True)
        (root / name / 'masks').mkdir()
        Image.new('RGBA', size, (10, 20, 30, 255)).save(root / name / 'images' / f'{name}.png')
        for i, (row, column) in enumerate([(10, 9), (10, 20)]):
            Image.fromarray(255 * disc(size[::-1], row, column, 5).astype(np.uint8)).save(root / name / 'masks' / f'{i}.png')
        Image.new('L', size).save(root / name / 'masks/empty.png')
    return root.parent


def test_a_clone(clone, tmp_path, run_tool):
    out = tmp_path / 'out'
    told = run_tool('prepare_nuclei', clone, out).out
    assert 'images: 1 for training, 1 for validation' in told
    assert 'this clone is not that of the tables, which have 412 and 126 images' in told
    train = json.loads((out / 'annotations/instances_train.json').read_text())
    (image,) = train['images']
    assert (image['file_name'], image['width'], image['height']) == (f'{TRAINED[:12]}.png', 40, 30)
    expected = [disc((30, 40), 10, 9, 5), disc((30, 40), 10, 20, 5)]
    assert [annotation['area'] for annotation in train['annotations']] == [mask.sum() for mask in expected]
    assert train['annotations'][0]['bbox'] == [4, 5, 11, 11]
    for annotation, mask in zip(train['annotations'], expected):
        assert np.array_equal(coco.decode(annotation['segmentation']), mask)
    labels = np.asarray(Image.open(out / 'labels/train' / image['file_name']))
    assert np.array_equal(labels, written_out(expected, (30, 40)))
    assert Image.open(out / 'train' / image['file_name']).mode == 'RGB'
    assert [path.name for path in (out / 'val').iterdir()] == [f'{VALIDATED[:12]}.png']


def test_what_is_no_clone(clone, tmp_path, run_tool):
    assert 'must be a clone of' in run_tool('prepare_nuclei', tmp_path, tmp_path / 'out', refused=True)
    assert 'is not empty: choose another OUT' in run_tool('prepare_nuclei', clone, clone, refused=True)


def test_the_current_folder_is_not_replaced(clone, tmp_path, run_tool, monkeypatch):
    here = tmp_path / 'here'
    here.mkdir()
    monkeypatch.setattr(Path, 'cwd', lambda: here)
    assert 'is the current folder, which would be replaced' in run_tool('prepare_nuclei', clone, here, refused=True)
    assert not list(here.iterdir())


def test_masks_that_do_not_fit_or_cannot_be_read(clone, tmp_path):
    mask = clone / 'stage1_train' / TRAINED / 'masks/0.png'
    Image.new('L', (4, 4), 255).save(mask)
    samples = find_samples(clone)
    with pytest.raises(ValueError, match=r'a mask has \(4, 4\) pixels, and the image \(40, 30\)'):
        list(write_split(samples, 'train', tmp_path / 'out'))
    mask.write_bytes(b'none')
    with pytest.raises(ValueError, match=re.escape(f'{mask} cannot be read')):
        list(write_split(samples, 'train', tmp_path / 'out'))


def test_a_folder_is_whole_or_not_there(clone, tmp_path, run_tool):
    (clone / 'stage1_train' / VALIDATED / 'masks/0.png').write_bytes(b'none')
    before = sorted(tmp_path.iterdir())
    (tmp_path / 'empty').mkdir()
    for out in ('new/out', 'empty'):
        assert 'cannot be read' in run_tool('prepare_nuclei', clone, tmp_path / out, refused=True)
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / 'empty', tmp_path / 'new'])
    assert not [*(tmp_path / 'empty').iterdir(), *(tmp_path / 'new').iterdir()]
    (clone / 'stage1_train' / VALIDATED / 'masks/0.png').unlink()
    run_tool('prepare_nuclei', clone, tmp_path / 'empty')
    assert (tmp_path / 'empty/annotations/instances_val.json').is_file()


def test_missing_data_is_named_with_its_own_variable_alone(tmp_path, monkeypatch, run_tool):
    """The config inherits from COCO's, which names another."""
    pytest.importorskip('mmdet')
    monkeypatch.setenv('NUCLEI_ROOT', str(tmp_path / 'nowhere'))
    told = run_tool('train', 'configs/nuclei/nuclei_instances.py', '--work-dir', tmp_path / 'work', refused=True)
    assert f'there is no data folder {tmp_path / "nowhere"}. Set NUCLEI_ROOT to the folder of your data' in told
    assert 'make it with tools/prepare_nuclei.py' in told
    assert 'COCO_ROOT' not in told
