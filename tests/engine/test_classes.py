"""The classes of the data beside those that a checkpoint was trained on."""

import json

import pytest
import torch
from mmengine.config import Config

from mmdysample.engine.checkpoint import secure_loading
from mmdysample.engine.classes import checkpoint_classes, match_to_resume, match_to_start, match_to_test, take_classes

pytest.importorskip('mmdet')
RGB = ('red', 'green', 'blue')
PALETTE = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


@pytest.fixture(autouse=True)
def _secure():
    secure_loading()


@pytest.fixture
def checkpoint(tmp_path):
    """Save a checkpoint that names classes."""

    def save(*classes, **meta):
        torch.save({'state_dict': {}, 'meta': meta or {'dataset_meta': {'classes': classes}}}, tmp_path / 'x.pth')
        return str(tmp_path / 'x.pth')

    return save


@pytest.fixture
def config(tmp_path):
    """A config whose data has some classes, and whose annotation file may have more."""

    def make(*classes, more=(), kind='CocoDataset', scope='mmdet', **metainfo):
        categories = [dict(id=i + 1, name=name) for i, name in enumerate((*classes, *more))]
        (tmp_path / 'a.json').write_text(json.dumps(dict(images=[], annotations=[], categories=categories)))
        dataset = dict(type=kind, data_root=str(tmp_path), ann_file='a.json', metainfo=dict(classes=classes, **metainfo))
        loaders = {f'{split}_dataloader': dict(dataset=dict(dataset)) for split in ('val', 'test')}
        train = dict(dataset=dict(type='RepeatDataset', dataset=dict(dataset)))
        model = dict(rpn_head=dict(num_classes=1), roi_head=[dict(num_classes=len(classes)) for _ in range(2)])
        return Config(dict(default_scope=scope, model=model, train_dataloader=train, **loaders))

    return make


def classes_of(cfg, split='test'):
    dataset = cfg[f'{split}_dataloader'].dataset
    return tuple(dataset.get('dataset', dataset).metainfo.classes)


@pytest.mark.parametrize(
    ('meta', 'classes'),
    [
        (dict(dataset_meta=dict(classes=RGB)), list(RGB)),
        (dict(dataset_meta=dict(CLASSES=list(RGB))), list(RGB)),
        (dict(CLASSES=RGB), list(RGB)),
        (dict(CLASSES='ship'), ['ship']),
        (dict(dataset_meta=dict(classes={0: 'red', 1: 'green'})), ['red', 'green']),
        (dict(dataset_meta=dict(classes=3)), []),
        (dict(dataset_meta=dict(classes=None)), []),
        (dict(dataset_meta=None, epoch=3), []),
        (dict(epoch=3), []),
    ],
)
def test_where_a_checkpoint_names_its_classes(checkpoint, meta, classes):
    assert checkpoint_classes(checkpoint(**meta)) == classes


def test_what_names_no_classes(tmp_path, config):
    torch.save({'weight': torch.zeros(1)}, tmp_path / 'x.pth')
    path, cfg = str(tmp_path / 'x.pth'), config('any', 'other')
    assert checkpoint_classes(path) == []
    assert match_to_resume(cfg, path) == match_to_start(cfg, path) == []
    (line,) = match_to_test(cfg, path)
    assert line.endswith('does not name its own; they are taken to be any, other, in this order')
    assert classes_of(cfg) == ('any', 'other')
    del cfg.test_dataloader.dataset['metainfo']
    assert match_to_test(cfg, path) == []  # the classes of COCO


def test_the_same_classes(checkpoint, config):
    path, cfg = checkpoint(*RGB), config(*RGB)
    before = cfg.pretty_text
    assert match_to_test(cfg, path) == match_to_resume(cfg, path) == match_to_start(cfg, path) == []
    assert cfg.pretty_text == before


def test_another_order(checkpoint, config):
    path, cfg = checkpoint(*RGB), config('green', 'blue', 'red', palette=[PALETTE[1], PALETTE[2], PALETTE[0]])
    (line,) = match_to_test(cfg, path)
    assert 'x.pth (red, green, blue), and not in that of' in line
    assert 'a.json (green, blue, red)' in line
    assert classes_of(cfg) == RGB
    assert cfg.test_dataloader.dataset.metainfo.palette == PALETTE
    assert classes_of(cfg, 'val') == ('green', 'blue', 'red')
    (line,) = match_to_resume(cfg, path)
    assert classes_of(cfg, 'val') == classes_of(cfg, 'train') == RGB


def test_another_order_of_panoptic_classes(checkpoint, config):
    cfg = config('b', 'a', 'sky', kind='CocoPanopticDataset', thing_classes=('b', 'a'), stuff_classes=('sky',))
    assert len(match_to_test(cfg, checkpoint('a', 'b', 'sky'))) == 1
    assert cfg.test_dataloader.dataset.metainfo == dict(classes=('a', 'b', 'sky'), thing_classes=('a', 'b'), stuff_classes=('sky',))
    with pytest.raises(ValueError, match='was trained on the classes a, b, and .* has b, a, sky'):
        match_to_test(config('b', 'a', 'sky', kind='CocoPanopticDataset', thing_classes=('b', 'a')), checkpoint('a', 'b'))


@pytest.mark.parametrize(
    ('classes', 'told'),
    [
        (('red', 'blue'), 'has red, blue; evaluated are red, blue; green does not occur'),
        (('blue',), 'has blue; evaluated are blue; red, green does not occur'),
        (('red', 'green', 'blue', 'tree'), 'evaluated are red, green, blue, without tree, which the model does not know'),
        (('tree', 'red'), 'evaluated are red, without tree, which the model does not know; green, blue does not occur'),
    ],
)
def test_fewer_and_more_classes(checkpoint, config, classes, told):
    cfg = config(*classes)
    (line,) = match_to_test(cfg, checkpoint(*RGB))
    assert line.startswith('warning: ')
    assert line.endswith(told)
    assert classes_of(cfg) == RGB
    assert [head.num_classes for head in cfg.model.roi_head] == [3, 3]
    assert cfg.model.rpn_head.num_classes == 1


def test_every_number_of_classes_follows(checkpoint, config):
    """Mask2Former has numbers of things and stuff, and weights of the classes and of no object."""
    cfg = config('red', 'blue')
    head = dict(num_things_classes=2, num_stuff_classes=0, loss_cls=dict(class_weight=[1.0, 1.0, 0.1]))
    cfg.model = dict(panoptic_head=head, panoptic_fusion_head=dict(num_things_classes=2, num_stuff_classes=0))
    match_to_test(cfg, checkpoint(*RGB))
    assert cfg.model.panoptic_head == dict(num_things_classes=3, num_stuff_classes=0, loss_cls=dict(class_weight=[1.0, 1.0, 1.0, 0.1]))
    assert cfg.model.panoptic_fusion_head.num_things_classes == 3


def test_a_choice_of_the_config(checkpoint, config):
    """A score of all classes of the model would not be that of the chosen one."""
    with pytest.raises(
        ValueError, match=r'trained on the classes red, green, blue, and the config has red .*; .*a\.json also has green, blue'
    ):
        match_to_test(config('red', more=('green', 'blue', 'tree')), checkpoint(*RGB))
    assert len(match_to_test(config('red', more=('tree',)), checkpoint(*RGB))) == 1


def test_other_names(checkpoint, config):
    with pytest.raises(ValueError, match=r'x\.pth was trained on the classes red, green, blue, and .* has cat, dog, cow; rename the categ'):
        match_to_test(config('cat', 'dog', 'cow'), checkpoint(*RGB))
    with pytest.raises(ValueError, match='; rename the categories that mean the same, such as Red, Blue , or use another checkpoint$'):
        match_to_test(config('Red', 'cat', 'Blue '), checkpoint(*RGB))


@pytest.mark.parametrize('classes', [('b', 'a'), ('a',), ('a', 'b', 'c'), ('x', 'y')])
def test_label_maps_name_no_classes(checkpoint, config, classes):
    """A number in a label map cannot be told to be another class."""
    pytest.importorskip('mmseg')
    cfg = config(*classes, kind='BaseSegDataset', scope='mmseg')
    with pytest.raises(ValueError, match=f'the classes a, b, and .* has {", ".join(classes)}.*; if the data .* --classes "a,b"'):
        match_to_test(cfg, checkpoint('a', 'b'))


def test_long_lists_show_where_they_differ(checkpoint, config):
    names = [f'class{i}' for i in range(150)]
    other = [*names[:100], 'new', *names[101:]]
    cfg = config(*other, kind='BaseSegDataset', scope='mmseg')
    pytest.importorskip('mmseg')
    with pytest.raises(ValueError, match=r'class99, class100, class101, .* class99, new, class101, .* differ from number 101 on'):
        match_to_test(cfg, checkpoint(*names))


@pytest.mark.parametrize('classes', [('red', 'green'), ('red', 'green', 'blue', 'tree'), ('cat', 'dog', 'cow')])
def test_training_resumes_on_the_same_classes(checkpoint, config, classes):
    with pytest.raises(ValueError, match=r'trained on the classes red, green, blue, and .*; .* --cfg-options load_from=.*x\.pth'):
        match_to_resume(config(*classes), checkpoint(*RGB))


def test_fine_tuning_says_what_the_head_knows(checkpoint, config):
    path = checkpoint(*RGB)
    assert match_to_start(config('cat', 'dog'), path) == []  # other shapes are not loaded
    (warning,) = match_to_start(config('cat', 'dog', 'cow'), path)
    assert 'was trained on red, green, blue, and the data has cat, dog, cow: the head starts from the weights of the former' in warning
    cfg = config('green', 'blue', 'red')
    (line,) = match_to_start(cfg, path)
    assert line.startswith('classes: in the order of')
    assert classes_of(cfg, 'train') == classes_of(cfg, 'val') == RGB


def test_names_for_a_picture(checkpoint, config):
    """Without annotations, only the checkpoint's classes count."""
    cfg = config('cat', 'dog')
    take_classes(cfg, checkpoint(*RGB))
    assert classes_of(cfg) == RGB
    assert cfg.model.roi_head[0].num_classes == 3
