"""Panoptic annotations and their PNG files."""

import json

import numpy as np
import pytest
from coco_folders import HEIGHT, WIDTH
from mmengine.config import Config
from PIL import Image

from mmdysample.datasets.check import check_data, prepare_data

pytest.importorskip('mmdet')
from mmdet.registry import DATASETS, METRICS

THING, STUFF = 300, 70_000  # ids that need more than one channel


def colours(ids):
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)


def write(root, change=lambda values, folder: None):
    """Write two images whose left half is a thing and whose right half is stuff."""
    values = dict(images=[], annotations=[], categories=[dict(id=1, name='cat', isthing=1), dict(id=2, name='sky', isthing=0)])
    for folder in ('images', 'segments'):
        (root / folder).mkdir(parents=True)
    ids = np.where(np.arange(WIDTH) < WIDTH // 2, THING, STUFF)[None].repeat(HEIGHT, 0)
    for i in range(2):
        Image.new('RGB', (WIDTH, HEIGHT), (i, i, i)).save(root / f'images/{i}.jpg')
        Image.fromarray(colours(ids)).save(root / f'segments/{i}.png')
        values['images'].append(dict(id=i, file_name=f'{i}.jpg', width=WIDTH, height=HEIGHT))
        segments = [
            dict(id=number, category_id=k + 1, iscrowd=0, bbox=[k * WIDTH // 2, 0, WIDTH // 2, HEIGHT], area=WIDTH // 2 * HEIGHT)
            for k, number in enumerate((THING, STUFF))
        ]
        values['annotations'].append(dict(image_id=i, file_name=f'{i}.png', segments_info=segments))
    change(values, root / 'segments')
    (root / 'panoptic.json').write_text(json.dumps(values))
    return root


def config(root):
    dataset = dict(
        type='CocoPanopticDataset',
        data_root=str(root),
        ann_file='panoptic.json',
        data_prefix=dict(img='images/', seg='segments/'),
        metainfo=dict(classes=('cat', 'sky'), thing_classes=('cat',), stuff_classes=('sky',)),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='mmdysample.LoadPanopticAnnotations')],
    )
    evaluator = dict(type='mmdysample.CocoPanopticMetric', ann_file=str(root / 'panoptic.json'), seg_prefix=str(root / 'segments'))
    return Config(dict(default_scope='mmdet', val_dataloader=dict(dataset=dataset), val_evaluator=evaluator))


def segments(change):
    def changed(values, folder):
        for annotation in values['annotations']:
            for segment in annotation['segments_info']:
                change(segment)

    return changed


def redraw(change):
    def changed(values, folder):
        for path in folder.iterdir():
            change(Image.open(path)).save(path)

    return changed


FOUND = [
    (segments(lambda s: s.pop('iscrowd')), 'mended', '4 objects without iscrowd (such as segment 300 of annotations[0] of 0.jpg)'),
    (segments(lambda s: s.pop('area')), 'mended', '4 objects without a positive area'),
    (segments(lambda s: s.update(category_id=str(s['category_id']))), 'mended', '4 category ids written as text'),
    (segments(lambda s: s.pop('bbox')), 'error', '4 objects without bbox'),
    (segments(lambda s: s.update(id=0)), 'error', '4 segments whose id is no positive integer'),
    (segments(lambda s: s.update(id=THING)), 'error', '2 annotations in which two segments have the same id'),
    (segments(lambda s: s.update(id=s['id'] + 1)), 'warning', '2 images whose PNG file has segments that the annotations lack'),
    (segments(lambda s: s.update(id=s['id'] + 1)), 'warning', '2 images whose PNG file lacks segments of the annotations'),
    (segments(lambda s: s['id'] == THING and s.update(category_id=9)), 'warning', '2 objects whose category_id is that of no category'),
    (lambda values, folder: (folder / '1.png').unlink(), 'error', '1 images without a PNG file in'),
    (lambda values, folder: (folder / '1.png').write_bytes(b'x'), 'error', '1 images whose PNG file cannot be read'),
    (lambda values, folder: values['annotations'].pop(), 'warning', '1 images without an annotation'),
    (redraw(lambda picture: picture.convert('L')), 'error', '2 images whose PNG file is grey'),
    (redraw(lambda picture: picture.resize((9, 9), Image.Resampling.NEAREST)), 'error', '2 images whose PNG file has another size'),
    (lambda values, folder: values['annotations'][0].update(segments_info=None), 'error', 'annotations[0].segments_info is null'),
    (lambda values, folder: values['annotations'][0].pop('segments_info'), 'error', "not in COCO's panoptic format"),
]


@pytest.mark.parametrize(('change', 'level', 'words'), FOUND, ids=[words for _, _, words in FOUND])
def test_faults_of_segments(tmp_path, change, level, words):
    found = [f'{finding.level}: {finding}' for finding in check_data(config(write(tmp_path, change)), ('val',), full=True)]
    assert any(line.startswith(level) and words in line for line in found), found


def test_segments_of_no_category_are_left_out(tmp_path):
    cfg = config(write(tmp_path, segments(lambda s: s['id'] == THING and s.update(category_id=9))))
    prepare_data(cfg, ('val',))
    dataset = DATASETS.build(dict(cfg.val_dataloader.dataset, _scope_='mmdet', pipeline=[]))
    assert [s['id'] for s in dataset[0]['segments_info']] == [STUFF]


def test_sound_segments_are_evaluated(tmp_path, capsys):
    cfg = config(write(tmp_path, segments(lambda s: s.pop('iscrowd'))))
    prepare_data(cfg, ('val',))
    metric = METRICS.build(dict(cfg.val_evaluator, _scope_='mmdet'))
    assert all(s['iscrowd'] == 0 for found in metric.truth.anns.values() for s in found)
    assert capsys.readouterr().out.count('mended') == 1
