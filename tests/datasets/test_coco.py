"""Each fault of COCO annotations is mended, warned of or refused, and sound ones are passed without a word."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from coco_folders import BOXES, HEIGHT, WIDTH, config, content, each, lines, polygon, put, take, write

from mmdysample.datasets.check import check_data, prepare_data
from mmdysample.datasets.coco.file import hand_over, kept_file, read_coco
from mmdysample.datasets.coco.segmentation import pixels_of
from mmdysample.datasets.report import contents

pytest.importorskip('mmdet')
NAN = float('nan')


def keep(values, folder):
    pass


def fractions(a):
    x, y, w, h = a['bbox']
    return [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT]


def corners(a):
    x, y, w, h = a['bbox']
    return [x, y, x + w, y + h]


def centres(a):
    x, y, w, h = a['bbox']
    return [x + w / 2, y + h / 2, w, h]


def points(a):
    (flat,) = a['segmentation']
    return [[[x, y] for x, y in zip(flat[::2], flat[1::2])]]


def runs(a):
    """The box as uncompressed run lengths, column by column."""
    x, y, w, h = a['bbox']
    counts = [x * HEIGHT + y, h, *[HEIGHT - h, h] * (w - 1)]
    return dict(size=[HEIGHT, WIDTH], counts=[*counts, WIDTH * HEIGHT - sum(counts)])


def text(key):
    return lambda entry: str(entry[key])


def entries(values):
    """Annotations without what is not compared, with tuples for lists."""
    return [
        {key: a[key] for key in ('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd', 'segmentation')} for a in values['annotations']
    ]


SOUND = [
    keep,
    put('annotations', 'iscrowd', False),
    put('annotations', 'id', lambda a: 1000 - a['id']),
    put('annotations', 'bbox', [30.6, 20.2, 18.3, 16.4], only=1),  # less than a pixel beyond the image, from rounding
    lambda values, folder: values.update(info=None),
    lambda values, folder: values['images'].append(dict(values['images'][0], id=9, file_name='../train/000.png')),
    put('annotations', 'iscrowd', 1, only=0),
    put('annotations', 'segmentation', runs),
    # Boxes that fit as corners, too.
    each('annotations', lambda a: a.update(bbox=[2, 2, 40, 30], area=1200, segmentation=[polygon(2, 2, 40, 30)])),
    put('images', 'file_name', lambda i: './' + i['file_name']),
]


@pytest.mark.parametrize('change', SOUND, ids=range(len(SOUND)))
def test_sound_annotations_pass_without_a_word(tmp_path, change):
    assert lines(write(tmp_path, change), masks=True, full=True) == []


def test_words_as_image_ids(tmp_path):
    def words(values, folder):
        put('images', 'id', lambda i: f'image {i["id"]}')(values, folder)
        put('annotations', 'image_id', lambda a: f'image {a["image_id"]}')(values, folder)

    assert lines(write(tmp_path, words)) == []


MENDED = [
    (take('annotations', 'iscrowd'), '6 objects without iscrowd'),
    (take('annotations', 'iscrowd', only=3), '1 objects without iscrowd (such as annotations[3] of 001.png)'),
    (put('annotations', 'iscrowd', '0'), 'iscrowd is text'),
    (take('annotations', 'area'), '6 objects without a positive area'),
    (put('annotations', 'area', 0), 'without a positive area'),
    (put('annotations', 'area', NAN, only=2), '1 objects without a positive area'),
    (put('annotations', 'area', text('area')), 'areas written as text'),
    (put('annotations', 'id', lambda a: a['id'] - 1), 'id is 0'),
    (put('annotations', 'id', 3), '6 annotations whose id is 0, missing, no integer or not unique'),
    (take('annotations', 'id'), 'annotations whose id is 0, missing'),
    (put('annotations', 'id', lambda a: f'a{a["id"]}'), 'no integer'),
    (put('annotations', 'image_id', text('image_id')), 'image ids written as text'),
    (put('images', 'id', text('id')), 'image ids written as text'),
    (put('annotations', 'category_id', text('category_id')), 'category ids written as text'),
    (put('categories', 'id', lambda c: float(c['id'])), 'category ids written as text or with a decimal point'),
    (put('annotations', 'bbox', lambda a: [str(v) for v in a['bbox']]), 'boxes with numbers as text'),
    (take('annotations', 'bbox', only=1), '1 objects without bbox'),
    (put('annotations', 'segmentation', lambda a: a['segmentation'][0]), 'a polygon outside of a list'),
    (put('annotations', 'segmentation', points), 'lists of points'),
    (put('annotations', 'segmentation', lambda a: points(a)[0]), 'lists of points'),
    (take('images', 'width'), '3 images without width or height'),
    (put('images', 'height', 0), 'images without width or height'),
    (put('images', 'width', text('width')), 'width or height is no integer'),
    (put('images', 'file_name', lambda i: 'train\\' + i['file_name']), 'other names'),
    (put('images', 'file_name', lambda i: 'train/' + i['file_name']), 'other names'),
    (put('images', 'file_name', lambda i: 'C:\\data\\train\\' + i['file_name']), 'other names'),
    (put('images', 'file_name', lambda i: '/home/me/train/' + i['file_name']), 'other names'),
    (put('images', 'file_name', lambda i: i['file_name'].upper()), 'other names'),
    (put('images', 'file_name', lambda i: i['file_name'][:-4]), 'here 000.png'),
    (lambda values, folder: values['images'].append(dict(values['images'][0])), 'listed twice'),
    (lambda values, folder: values['categories'].insert(0, dict(id=0, name='cat', supercategory='none')), 'class name that several'),
]


@pytest.mark.parametrize(('change', 'words'), MENDED, ids=[words for _, words in MENDED])
def test_what_is_clearly_meant_is_read_as_it_is_meant(tmp_path, change, words):
    root = write(tmp_path, change)
    before = (root / 'train.json').read_bytes()
    (line,) = lines(root, masks=True)
    assert line.startswith('mended: ')
    assert words in line
    read, sound = hand_over(str(root / 'train.json')), content()
    first = {c['id'] for c in read['categories']} - {2}
    for a in read['annotations']:
        a['category_id'] = 1 if a['category_id'] in first else 2
    assert entries(read) == entries(sound)
    assert read['images'] == sound['images']
    assert [c['name'] for c in read['categories']] == ['cat', 'dog']
    assert (root / 'train.json').read_bytes() == before


@pytest.mark.parametrize(
    ('encode', 'words'),
    [
        (lambda text: b'\xef\xbb\xbf' + text.encode(), 'byte order mark'),
        (lambda text: text.encode('utf-16'), 'utf-16'),
        (lambda text: gzip.compress(text.encode()), 'compressed with gzip'),
    ],
)
def test_other_encodings_are_read(tmp_path, encode, words):
    (line,) = lines(write(tmp_path, encode=encode))
    assert line.startswith('mended: ')
    assert words in line
    assert entries(hand_over(str(tmp_path / 'train.json'))) == entries(content())


WARNED = [
    (put('annotations', 'bbox', [30, 20, 0, 12], only=1), '1 boxes less than a pixel wide or high'),
    (put('annotations', 'bbox', [30, 20, 30, 12], only=1), '1 boxes that reach beyond their image (such as annotations[1] of 000.png'),
    (put('annotations', 'bbox', [90, 20, 14, 12], only=1), '1 boxes outside of their image'),
    (lambda values, folder: values['annotations'].append(dict(values['annotations'][1], id=9)), '1 objects that are listed twice'),
    (put('annotations', 'area', 0.07), '6 areas that cannot be those of the boxes'),
    (put('annotations', 'image_id', 99, only=1), '1 objects of no image'),
    (put('annotations', 'category_id', 77, only=1), '1 objects whose category_id is that of no category (such as 77'),
    (put('images', 'file_name', '000.png', only=1), '2 images with the name of another one'),
    (lambda values, folder: values.update(annotations=values['annotations'][:2]), '2 of 3 images are left out because they have no object'),
]


@pytest.mark.parametrize(('change', 'words'), WARNED, ids=[words for _, words in WARNED])
def test_lost_data_is_a_warning(tmp_path, change, words):
    (line,) = lines(write(tmp_path, change))
    assert line.startswith('warning: ')
    assert words in line


@pytest.mark.parametrize(
    'segmentation',
    [None, [], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6, 7]], [[NAN, 2, 3, 4, 5, 6]], 'polygon', 3, {'counts': 'x'}, {'size': [36, 48]}],
)
def test_an_object_without_a_mask_is_ignored(tmp_path, segmentation):
    root = write(tmp_path, put('annotations', 'segmentation', segmentation, only=1))
    (line,) = lines(root, masks=True)
    assert line.startswith('warning: ')
    assert '1 objects without a usable segmentation (such as annotations[1] of 000.png' in line
    read = hand_over(str(root / 'train.json'))['annotations'][1]
    assert (read['iscrowd'], read['segmentation']) == (1, [polygon(*BOXES[1])])
    assert lines(root, masks=False) == []


@pytest.mark.parametrize(('only', 'level'), [(1, 'warning'), (None, 'error')])
def test_lines_are_no_masks(tmp_path, only, level):
    def flatten(a):
        x, y, w, h = a['bbox']
        a['segmentation'] = [[x, y, x + w / 2, y + h / 2, x + w, y + h]]

    (line,) = lines(write(tmp_path, each('annotations', flatten, only)), masks=True)
    assert line.startswith(level)
    assert 'masks of 6 looked at without an area, such as lines' in line


def test_run_lengths_as_text_cover_their_image(tmp_path):
    rle = pytest.importorskip('pycocotools.mask')
    rng = np.random.default_rng(0)
    for density in (0, 0.1, 0.5, 1):
        counts = rle.encode(np.asfortranarray(rng.random((HEIGHT, WIDTH)) < density, dtype=np.uint8))['counts'].decode()
        assert pixels_of(counts) == HEIGHT * WIDTH
    for broken in (counts[:-1], counts + '2', 'zzzz', 'é'):
        assert pixels_of(broken) != HEIGHT * WIDTH
    root = write(tmp_path, put('annotations', 'segmentation', dict(size=[HEIGHT, WIDTH], counts='52'), only=1))
    found = [line for line in lines(root, masks=True) if line.startswith('error: ')]
    assert ['1 run-length encoded masks whose counts do not add up' in line for line in found] == [True]


def test_a_degenerate_part_of_a_mask_is_left_out(tmp_path):
    root = write(tmp_path, each('annotations', lambda a: a['segmentation'].append([1, 2, 3, 4]), only=1))
    (line,) = lines(root, masks=True)
    assert 'warning: ' in line
    assert 'that polygon is left out' in line
    assert entries(hand_over(str(root / 'train.json'))) == entries(content())


REFUSED = [
    (put('annotations', 'bbox', fractions), 'between 0 and 1'),
    (put('annotations', 'bbox', corners), 'corners x1, y1, x2, y2'),
    (put('annotations', 'bbox', centres), 'begin with their centre'),
    (put('annotations', 'bbox', [30, 20, -4, 12], only=1), '1 boxes with a negative width or height'),
    (put('annotations', 'bbox', [NAN, 20, 4, 12], only=1), '1 boxes with NaN or infinity'),
    (put('annotations', 'bbox', [1e999, 20, 4, 12], only=1), '1 boxes with NaN or infinity'),
    (put('annotations', 'bbox', [1, 2, 3], only=1), 'no list of four numbers'),
    (put('annotations', 'bbox', {'x': 1}, only=1), 'no list of four numbers'),
    (put('annotations', 'bbox', 5, only=1), 'no list of four numbers'),
    (each('annotations', lambda a: [a.pop(key) for key in ('bbox', 'segmentation')], only=1), '1 objects without bbox'),
    (put('annotations', 'iscrowd', 2, only=1), 'neither 0 nor 1'),
    (put('annotations', 'iscrowd', 1), '6 objects, but none to train on: 6 are crowds'),
    (put('annotations', 'ignore', 1), '6 are marked to be ignored'),
    (put('annotations', 'bbox', [30, 20, 0, 12]), '6 are outside of their image or without a size'),
    (put('annotations', 'image_id', 99), '6 objects of no image'),
    (put('annotations', 'category_id', lambda a: a['category_id'] - 1), 'as if one were numbered from 0'),
    (put('annotations', 'category_id', lambda a: a['category_id'] + 1), 'as if one were numbered from 0'),
    (put('annotations', 'category_id', 9), 'which are all'),
    (put('annotations', 'category_id', None, only=1), '1 objects without image_id or category_id'),
    (put('categories', 'name', 'cat'), 'class name that several used categories have (such as cat, with the ids 1, 2)'),
    (put('categories', 'id', 1), 'category ids given twice'),
    (put('images', 'id', 1, only=1), '1 images with the id of another one'),
    (put('images', 'id', None, only=1), '1 images without an id'),
    (put('images', 'id', 'x', only=1), 'image ids that are no integers, while others are'),
    (put('images', 'id', [1], only=1), 'id of images[1] is a list'),
    (put('annotations', 'bbox', [10**400, 20, 4, 12], only=1), 'a number is too large'),
    (put('images', 'height', 10**400, only=1), 'a number is too large'),
    (put('images', 'file_name', None, only=1), '1 images without a file_name'),
    (put('images', 'file_name', ['000.png'], only=1), '1 images without a file_name'),
    (put('images', 'file_name', '', only=1), '1 images without a file_name'),
    (put('images', 'file_name', lambda i: 'other/' + i['file_name']), 'there is 000.png'),
    (put('images', 'file_name', lambda i: i['file_name'].replace('png', 'jpg')), 'there is 000.png'),
    (lambda values, folder: (folder / '001.png').unlink(), '1 of 3 images are not in'),
    (put('images', 'width', 99), 'of another size than their width and height in the annotations, 99x36 where the image is 48x36'),
    (lambda values, folder: values['images'].clear(), 'there is nothing to train on'),
    (lambda values, folder: values['annotations'].clear(), 'there is no object to train on'),
    (lambda values, folder: values['images'].__setitem__(1, 7), 'images[1] is a number, expected an object'),
    (lambda values, folder: values['annotations'].__setitem__(1, [7]), 'annotations[1] is a list, expected an object'),
    (lambda values, folder: values.update(annotations=None), 'annotations is null, expected a list'),
    (lambda values, folder: values.pop('annotations'), 'it lacks annotations'),
    (lambda values, folder: values['categories'][1].pop('id'), 'categories[1] has no id'),
    (put('categories', 'name', None), 'at least one object with a name'),
]


@pytest.mark.parametrize(('change', 'words'), REFUSED, ids=[words for _, words in REFUSED])
def test_wrong_annotations_are_refused(tmp_path, change, words):
    errors = [line for line in lines(write(tmp_path, change)) if line.startswith('error: ')]
    assert any(words in line for line in errors), errors
    assert all(str(tmp_path / 'train.json') in line for line in errors)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (take('annotations', 'segmentation'), '6 objects without a segmentation, which are all'),
        (put('annotations', 'segmentation', lambda a: dict(runs(a), size=[WIDTH, HEIGHT])), 'of another size than their image'),
        (put('annotations', 'segmentation', lambda a: dict(runs(a), counts=[1, 2]), only=1), '1 run-length encoded masks whose counts'),
        (
            put('annotations', 'segmentation', [[0.1, 0.1, 0.2, 0.1, 0.2, 0.2]]),
            '6 masks of 6 looked at whose extent is not that of the box',
        ),
    ],
)
def test_wrong_masks_are_refused_where_masks_are_wanted(tmp_path, change, words):
    root = write(tmp_path, change)
    (line,) = lines(root, masks=True)
    assert line.startswith('error: ')
    assert words in line
    assert not any('error' in line for line in lines(root))


@pytest.mark.parametrize(
    ('raw', 'words'),
    [
        (b'', 'the file is empty'),
        (b'<html>', 'it is XML or a web page'),
        (b'version https://git-lfs.github.com/spec/v1\n', 'git lfs pull'),
        (b'{"images": [1,]}', 'remove the comma'),
        (b'{"images": [],}', 'remove the comma'),
        (b'{"images": 1}\n{"images": 2}', 'JSON Lines'),
        (b'{"images": [{"file_name": "0', 'cut off'),
        (b'{"name": "\xf6"}', 'not in UTF-8'),
        pytest.param(b'[' * 100_000, 'nested too deeply', id='deep'),
        (b'[{"image_id": 1, "score": 0.5}]', 'it holds predictions'),
        (b'[]', 'it holds a list'),
        (b'null', 'it lacks images, annotations, categories'),
        (gzip.compress(b'{}' * 999, mtime=0)[:20], 'cannot be unpacked'),
    ],
)
def test_a_file_that_is_no_annotations_is_named(tmp_path, raw, words):
    path = tmp_path / 'x.json'
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r'x\.json ') as error:
        read_coco(path)
    assert words in str(error.value)


@pytest.mark.parametrize('masks', [False, True])
@pytest.mark.parametrize(
    'change',
    [
        put('annotations', 'segmentation', [[0.1, 0.1, 0.2, 0.1, 0.2, 0.2]]),
        put('annotations', 'bbox', lambda a: [20, 2, *a['bbox'][2:]]),
    ],
    ids=['fractions', 'elsewhere'],
)
def test_masks_tell_of_wrong_boxes(tmp_path, change, masks):
    found = [line for line in lines(write(tmp_path, change), masks=masks) if '6 masks of 6 looked at whose extent is not' in line]
    assert [line.split(':')[0] for line in found] == ['error' if masks else 'warning']


@pytest.mark.parametrize(('count', 'told'), [(2_000, 1), (20_000, 0)])
def test_a_few_odd_objects_of_many_are_tolerated(tmp_path, count, told):
    """COCO itself has boxes less than a pixel wide."""

    def change(values, folder):
        values['annotations'] = [
            dict(values['annotations'][i % 6], id=i + 1, bbox=[i % 30, i % 20, 5 + i % 7, 5 + i % 5]) for i in range(count)
        ]
        each('annotations', lambda a: a.update(area=a['bbox'][2] * a['bbox'][3], segmentation=[polygon(*a['bbox'])]))(values, folder)
        values['annotations'][5].update(bbox=[3, 3, 0.5, 5], area=2.5, segmentation=[[3, 3, 4, 3]])

    found = [line for line in lines(write(tmp_path, change), masks=True) if 'listed twice' not in line]
    assert len(found) == 2 * told, found


@pytest.mark.parametrize('scope', ['', 'mmdet.', None], ids=['name', 'scope', 'class'])
def test_classes_and_steps_are_known_however_the_config_names_them(tmp_path, scope):
    from mmdet.datasets import CocoDataset, transforms

    def kind(cls):
        return cls if scope is None else scope + cls.__name__

    root = write(tmp_path, take('annotations', 'segmentation'))
    pipeline = [dict(type='LoadImageFromFile'), dict(type=kind(transforms.LoadAnnotations), with_bbox=True, with_mask=True)]
    (line,) = lines(root, type=kind(CocoDataset), pipeline=pipeline)
    assert '6 objects without a segmentation' in line
    found = lines(root, type=kind(CocoDataset), metainfo={})
    assert 'has the categories cat, dog, and the config the classes person, bicycle, car, motorcycle, airplane, ... (80)' in found[0]


def test_the_images_of_a_broken_file_are_those_of_its_folder(tmp_path):
    root = write(tmp_path)
    (root / 'train/broken.json').write_text('{')
    cfg = config(root, ann_file='train/broken.json')
    assert [finding.level for finding in check_data(cfg, ('train',))] == ['error']
    assert contents(cfg, ('train',)) == 'train: 3 images'


def test_images_left_out_by_the_filter(tmp_path):
    root = write(tmp_path)
    (line,) = lines(root, filter_cfg=dict(min_size=HEIGHT + 1))
    assert line.startswith('error: ')
    assert f'3 of 3 images are left out because they are smaller than filter_cfg.min_size={HEIGHT + 1}' in line
    assert '--cfg-options train_dataloader.dataset.filter_cfg.min_size=0' in line


def test_an_unlabelled_image_that_is_left_out_may_be_missing(tmp_path):
    def change(values, folder):
        (folder / '002.png').unlink()
        values['annotations'] = values['annotations'][:4]

    assert lines(write(tmp_path, change)) == []
    assert '002.png' in lines(tmp_path, filter_cfg=dict(filter_empty_gt=False))[0]


@pytest.mark.parametrize('first', [0, 1])
def test_the_first_id_does_not_change_the_ap(tmp_path, first):
    """pycocotools takes a match with the annotation 0 for no match."""
    from mmdet.registry import METRICS

    cfg = config(write(tmp_path, put('annotations', 'id', lambda a: a['id'] - 1 + first), ('val',)), splits=('val',))
    prepare_data(cfg, ('val',))
    metric = METRICS.build(dict(cfg.val_evaluator, _scope_='mmdet'))
    metric.dataset_meta = dict(classes=('cat', 'dog'))
    corners = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in BOXES], dtype=torch.float32)
    found = dict(bboxes=corners, scores=torch.ones(2), labels=torch.tensor([0, 1]))
    for number in (1, 2, 3):
        metric.process({}, [dict(pred_instances=found, img_id=number, ori_shape=(HEIGHT, WIDTH))])
    assert metric.evaluate(3)['coco/bbox_mAP'] == 1


def test_a_file_is_parsed_once_and_given_back_unless_an_evaluator_holds_it(tmp_path, monkeypatch):
    from mmdet.registry import DATASETS, METRICS

    from mmdysample.datasets.coco import file as file_module
    from mmdysample.datasets.coco.parsing import parse

    parsed = []
    monkeypatch.setattr(file_module, 'parse', lambda path: parsed.append(path) or parse(path))
    cfg = config(write(tmp_path, splits=('train', 'val')), splits=('train', 'val'))
    prepare_data(cfg, ('train', 'val'))
    path = Path(cfg.val_evaluator.ann_file)
    assert len(parsed) == 2
    for split in ('train', 'val'):
        dataset = DATASETS.build(dict(cfg[f'{split}_dataloader'].dataset, _scope_='mmdet', pipeline=[]))
        assert len(dataset) == 3
    assert kept_file(tmp_path / 'train.json') is None
    metric = METRICS.build(dict(cfg.val_evaluator, _scope_='mmdet'))
    assert len(metric._coco_api.anns) == 6
    assert metric._coco_api.dataset['annotations'] is kept_file(path).content['annotations']  # so keeping it takes no memory
    assert len(parsed) == 2


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda values, folder: values['images'].append(dict(values['images'][0], id=7)), 'error: {}: 1 images that are in only one of'),
        (put('annotations', 'bbox', [1, 2, 13, 14]), 'warning: {}, which the evaluator reads, has other objects than'),
        (take('annotations', 'iscrowd'), 'mended: {}: 6 objects without iscrowd'),
        (lambda values, folder: values.pop('images'), 'error: {} is not in COCO format: it lacks images'),
    ],
    ids=['images', 'objects', 'iscrowd', 'form'],
)
def test_the_evaluators_file_is_checked_too(tmp_path, change, words):
    cfg = config(write(tmp_path, splits=('val',)), splits=('val',))
    cfg.val_evaluator.ann_file = str(write(tmp_path / 'other', change, ('val',)) / 'val.json')
    found = [f'{finding.level}: {finding}' for finding in check_data(cfg, ('val',))]
    assert any(line.startswith(words.format(cfg.val_evaluator.ann_file)) for line in found), found


def test_images_that_were_trained_on(tmp_path):
    root = write(tmp_path, splits=('train', 'val'))
    assert lines(root, splits=('train', 'val')) == []
    (root / 'val/001.png').write_bytes((root / 'train/001.png').read_bytes())
    (line,) = lines(root, splits=('train', 'val'))
    assert line.startswith('warning: ')
    assert '1 of 3 images are among the training images (such as 001.png)' in line
