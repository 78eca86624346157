"""The command that reads all data and prints what is wrong with it."""

import json
import runpy
import sys

import pytest
from coco_folders import HEIGHT, WIDTH, write

pytest.importorskip('mmdet')
MASKS = 'configs/mask_rcnn_dysample.py'


@pytest.fixture
def check(monkeypatch, capfd, tmp_path):
    """Run the command on a folder: its exit code, and what it printed."""

    def run(config, *arguments):
        monkeypatch.setattr(sys, 'argv', ['tools/check_data.py', config, *map(str, arguments), '--work-dir', str(tmp_path / 'work')])
        try:
            runpy.run_path('tools/check_data.py', run_name='__main__')
        except SystemExit as exit_:
            return exit_.code, capfd.readouterr().out
        return 0, capfd.readouterr().out

    return run


def folder(root, change=lambda values, folder: None, count=3):
    """Write a folder in the layout of COCO, whose training split is changed."""
    write(root, lambda values, images: images.name == 'train' and change(values, images), ('train', 'val'), count=count)
    (root / 'annotations').mkdir()
    for split in ('train', 'val'):
        (root / f'{split}.json').rename(root / f'annotations/instances_{split}.json')
    return root


FAULTS = {
    'mended: 1 objects without iscrowd': lambda i, a, f: a[0].pop('iscrowd'),
    'mended: 1 annotations whose id is 0': lambda i, a, f: a[1].update(id=0),
    'mended: 1 objects without a positive area': lambda i, a, f: a[2].update(area=None),
    'mended: 1 masks that are a polygon outside of a list': lambda i, a, f: a[3].update(segmentation=a[3]['segmentation'][0]),
    'mended: 1 images without width or height': lambda i, a, f: i[0].pop('width'),
    'mended: 1 images whose files in': lambda i, a, f: i[1].update(file_name='train\\001.png'),
    'warning: 1 boxes that reach beyond their image': lambda i, a, f: a[4].update(bbox=[WIDTH - 5, 5, 12, 10], segmentation=[]),
    'warning: 1 boxes outside of their image': lambda i, a, f: a[5].update(bbox=[WIDTH + 5, 5, 12, 10], segmentation=[]),
    'warning: 1 boxes less than a pixel wide': lambda i, a, f: a[6].update(bbox=[4, 5, 0, 10], segmentation=[]),
    'warning: 4 objects without a usable segmentation': lambda i, a, f: None,  # those of three warnings and of an error
    'warning: 1 objects of no image': lambda i, a, f: a[7].update(image_id=99),
    'warning: 1 objects whose category_id is that of no category': lambda i, a, f: a[8].update(category_id=77),
    'warning: 2 images with the name of another one': lambda i, a, f: i[9].update(file_name='008.png'),
    'error: 1 boxes with NaN or infinity': lambda i, a, f: a[10].update(bbox=[float('nan'), 5, 12, 10]),
    'error: 1 boxes with a negative width': lambda i, a, f: a[11].update(bbox=[30, 30, -12, -10], segmentation=None),
    'error: 1 of 10 images are not in': lambda i, a, f: (f / '006.png').unlink(),
    'error: 1 images that cannot be read': lambda i, a, f: (f / '007.png').write_bytes(b'<html>'),
    'error: 1 images of another size': lambda i, a, f: i[5].update(height=HEIGHT - 1),
}


def test_every_fault_of_a_folder_is_a_row(check, tmp_path):
    def change(values, images):
        for fault in FAULTS.values():
            fault(values['images'], values['annotations'], images)

    root = folder(tmp_path / 'data', change, count=10)
    before = (root / 'annotations/instances_train.json').read_bytes()
    code, printed = check(MASKS, '--data-root', root)
    assert code == 2
    rows = [[cell.strip() for cell in line.split('│')[1:-1]] for line in printed.splitlines() if line.startswith('│')]
    assert len(rows) == len(FAULTS), printed
    found = [f'{level}: {count} {what}' for level, _, count, what, *_ in rows]
    for name in FAULTS:
        assert sum(line.startswith(name) for line in found) == 1, (name, found)
    assert [line.split(':')[0] for line in found] == ['error'] * 5 + ['warning'] * 7 + ['mended'] * 6
    assert '5 errors, 7 warnings, 6 mended: train: 10 images' in printed
    assert (root / 'annotations/instances_train.json').read_bytes() == before


def test_sound_folders_are_clean(check, tmp_path, shapes, monkeypatch):
    code, printed = check(MASKS, '--data-root', folder(tmp_path / 'data'))
    assert code == 0
    assert 'clean: train: 3 images, 6 objects; val: 3 images, 6 objects; ' in printed.splitlines()[-1]
    monkeypatch.setenv('SHAPES_ROOT', str(shapes))
    code, printed = check('configs/shapes/panoptic_fpn_dysample_shapes.py', '--cfg-options', 'shapes.train=16', 'shapes.val=8')
    assert code == 0
    assert 'clean: train: 16 images, ' in printed.splitlines()[-1]


def test_a_broken_file_is_one_line(check, tmp_path, capfd):
    root = folder(tmp_path / 'data')
    (root / 'annotations/instances_val.json').write_text(json.dumps([]))
    code, _ = check(MASKS, '--data-root', root)
    assert code == 2
