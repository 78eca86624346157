import json
import shutil
from pathlib import Path

import pytest
from conftest import mmdet_config
from mmengine.config import Config

from mmdysample.datasets.check import prepare_data
from mmdysample.datasets.coco.file import read_coco
from mmdysample.datasets.custom import Split, use_folder

pytest.importorskip('mmdet')
BOTH = {'train': Split(), 'val': Split()}


@pytest.fixture
def fruit(shapes, tmp_path) -> Path:
    """A COCO-format folder with three categories and file names of its own."""
    root = tmp_path / 'fruit'
    (root / 'annotations').mkdir(parents=True)
    for split in ('train', 'val'):
        shutil.copytree(shapes / 'coco' / f'{split}2017', root / f'{split}_photos')
        content = read_coco(shapes / f'coco/annotations/instances_{split}2017.json')
        for category, name in zip(content['categories'], ('apple', 'box', 'carrot')):
            category['name'] = name
        (root / f'annotations/instances_{split}_v3.json').write_text(json.dumps(content))
    return root


def config(name='mask_rcnn_dysample.py'):
    return Config.fromfile(f'configs/{name}')


def test_classes_and_paths_come_from_the_folder(fruit):
    cfg = config()
    cfg.model.rpn_head.num_classes = 1  # as of RPNs that are an FCOSHead or another detector: it tells objects from background
    found = use_folder(cfg, str(fruit), BOTH)
    assert found[-1] == 'classes: 3 from the annotations (apple, box, carrot)'
    assert cfg.model.rpn_head.num_classes == 1
    assert cfg.model.roi_head.bbox_head.num_classes == cfg.model.roi_head.mask_head.num_classes == 3
    for loader, split in ((cfg.train_dataloader, 'train'), (cfg.val_dataloader, 'val'), (cfg.test_dataloader, 'val')):
        assert loader.dataset.ann_file == str(fruit / f'annotations/instances_{split}_v3.json')
        assert loader.dataset.data_prefix.img == f'{fruit}/{split}_photos/'
        assert loader.dataset.metainfo.classes == ('apple', 'box', 'carrot')
    assert cfg.val_evaluator.ann_file == cfg.test_evaluator.ann_file == cfg.val_dataloader.dataset.ann_file
    prepare_data(cfg, ('train', 'val', 'test'))


def test_the_changed_config_is_complete_when_it_is_saved(fruit, tmp_path):
    cfg = config()
    use_folder(cfg, str(fruit), BOTH)
    cfg.dump(str(tmp_path / 'saved.py'))
    again = Config.fromfile(str(tmp_path / 'saved.py'))
    assert again.model.roi_head.bbox_head.num_classes == 3
    prepare_data(again, ('train', 'val', 'test'))


def test_other_places_by_flags(fruit):
    (fruit / 'train_photos').rename(fruit / 'pictures')
    (fruit / 'annotations/instances_train_v3.json').rename(fruit / 'labels.json')
    cfg = config()
    use_folder(cfg, str(fruit), {'train': Split('labels.json', 'pictures'), 'val': Split()})
    assert cfg.train_dataloader.dataset.ann_file == str(fruit / 'labels.json')
    prepare_data(cfg, ('train',))


def test_coco_itself_keeps_the_classes(coco128):
    cfg = config()
    found = use_folder(cfg, str(coco128), BOTH)
    assert not any(line.startswith('classes') for line in found)
    assert cfg.model.roi_head.bbox_head.num_classes == 80


def test_classes_may_be_in_another_order_than_the_categories(coco128, tmp_path):
    """They are numbered in the order of the config; --data-root takes that of the file."""
    root = tmp_path / 'coco'
    (root / 'annotations').mkdir(parents=True)
    for split in ('train', 'val'):
        (root / f'{split}2017').symlink_to(coco128 / f'{split}2017')
        content = read_coco(coco128 / f'annotations/instances_{split}2017.json')
        content['categories'].reverse()
        (root / f'annotations/instances_{split}2017.json').write_text(json.dumps(content))
    cfg = config()
    cfg.train_dataloader.dataset.data_root = str(root)
    prepare_data(cfg, ('train',))
    assert use_folder(cfg, str(root), BOTH)[-1].startswith('classes: 80 from the annotations (toothbrush, ')
    assert len(cfg.train_dataloader.dataset.metainfo.palette) == 80
    prepare_data(cfg, ('train', 'val'))


def test_a_choice_of_classes_is_allowed(coco128):
    cfg = config()
    cfg.train_dataloader.dataset.update(data_root=str(coco128), metainfo=dict(classes=('person', 'dog')))
    prepare_data(cfg, ('train',))


def test_some_of_the_categories(fruit):
    cfg = config()
    assert use_folder(cfg, str(fruit), BOTH, ['carrot', ' apple'])[-1] == 'classes: 2 of the 3 from the annotations (apple, carrot)'
    assert cfg.model.roi_head.mask_head.num_classes == 2
    assert cfg.test_dataloader.dataset.metainfo.classes == ('apple', 'carrot')
    prepare_data(cfg, ('train', 'val', 'test'))
    with pytest.raises(ValueError, match=r'--classes names pear, which is not among the categories of .*: apple, box, carrot'):
        use_folder(config(), str(fruit), BOTH, ['apple', 'pear'])


def test_some_of_the_categories_by_options(fruit):
    cfg, options = config(), {'train_dataloader.dataset.metainfo.classes': ('apple', 'box')}
    cfg.merge_from_dict(options)
    use_folder(cfg, str(fruit), BOTH, options=options)
    assert cfg.model.roi_head.bbox_head.num_classes == len(cfg.val_dataloader.dataset.metainfo.classes) == 2


def test_options_have_the_last_word(fruit):
    cfg, options = config(), {'train_dataloader.dataset.data_prefix.img': 'val_photos', 'train_dataloader.batch_size': 1}
    cfg.merge_from_dict(options)
    use_folder(cfg, str(fruit), BOTH, options=options)
    assert cfg.train_dataloader.dataset.data_prefix.img == 'val_photos'


def test_another_order_in_the_validation_file(fruit):
    path = fruit / 'annotations/instances_val_v3.json'
    edit(path, lambda content: content['categories'].reverse())
    cfg = config()
    use_folder(cfg, str(fruit), BOTH)
    assert cfg.val_dataloader.dataset.metainfo.classes == ('apple', 'box', 'carrot')


@pytest.mark.parametrize('name', ["d'été", 'two words', 'back\\slash', '[1]', 'a"b', '木', '{x}', 'per%cent'])
def test_any_name_of_a_folder(fruit, tmp_path, name):
    root = tmp_path / name
    fruit.rename(root)
    edit(root / 'annotations/instances_train_v3.json', lambda content: content['categories'][0].update(name="l'été"))
    edit(root / 'annotations/instances_val_v3.json', lambda content: content['categories'][0].update(name="l'été"))
    cfg = config()
    use_folder(cfg, str(root), BOTH)
    cfg.dump(str(tmp_path / 'saved.py'))
    again = Config.fromfile(str(tmp_path / 'saved.py'))
    assert again.to_dict() == cfg.to_dict()
    prepare_data(again, ('train', 'val', 'test'))


def test_a_home_folder(fruit, monkeypatch):
    monkeypatch.setenv('HOME', str(fruit.parent))
    assert use_folder(config(), '~/fruit', BOTH)[0] == f'data: {fruit}'


def test_two_datasets_of_a_config_become_one(fruit):
    cfg = config()
    one = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(
        type='ClassBalancedDataset', oversample_thr=0.1, dataset=dict(type='ConcatDataset', datasets=[one, one])
    )
    use_folder(cfg, str(fruit), BOTH)
    (leaf,) = cfg.train_dataloader.dataset.dataset.datasets
    assert leaf.ann_file == str(fruit / 'annotations/instances_train_v3.json')
    prepare_data(cfg, ('train',))


@pytest.mark.parametrize(('path', 'is_file'), [('train_photos', False), ('annotations/instances_train_v3.json', True)])
def test_a_folder_for_a_file_and_the_other_way_round(fruit, path, is_file):
    given = Split(img=path) if is_file else Split(ann=path)
    with pytest.raises(ValueError, match=f'takes a {"folder, and this is a file" if is_file else "file, and this is a folder"}: .*{path}'):
        use_folder(config(), str(fruit), {'train': given, 'val': Split()})


def test_maps_and_classes_for_a_config_that_reads_neither(fruit):
    cfg = config()
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[name].dataset = dict(type='VOCDataset', data_root='x', ann_file='train.txt', data_prefix=dict(sub_data_root='VOC2007/'))
    with pytest.raises(ValueError, match='which this config does not read'):
        use_folder(cfg, str(fruit), {'train': Split('annotations'), 'val': Split()})
    with pytest.raises(ValueError, match='--classes is for label maps and COCO annotations'):
        use_folder(cfg, str(fruit), BOTH, ['a'])
    use_folder(cfg, str(fruit), BOTH)
    assert cfg.test_dataloader.dataset.data_root == str(fruit)


@pytest.mark.parametrize('categories', [None, 'apple', [{'id': 1}], []])
def test_categories_without_names(tmp_path, categories):
    (tmp_path / 'x.json').write_text(json.dumps(dict(images=[], annotations=[], categories=categories)))
    with pytest.raises(ValueError, match='its categories must be a list of at least one object with a name'):
        read_coco(tmp_path / 'x.json')


@pytest.mark.parametrize(
    ('harm', 'message'),
    [
        (lambda root: shutil.rmtree(root), r'there is no data folder .*fruit'),
        (lambda root: shutil.rmtree(root / 'val_photos'), r'should hold one val\*/, but holds none: give it with --val-img'),
        (lambda root: (root / 'train2').mkdir(), r'holds more than one \(train2, train_photos\): give it with --train-img'),
        (
            lambda root: (root / 'annotations/instances_val_v3.json').unlink(),
            r'instances_val\*\.json, but holds none: give it with --val-ann',
        ),
        (lambda root: (root / 'annotations/instances_val_v3.json').write_text('{"images": []}'), 'lacks annotations, categories'),
        (lambda root: (root / 'annotations/instances_val_v3.json').write_text('{"images": '), 'is not JSON'),
        (lambda root: rename_category(root / 'annotations/instances_val_v3.json'), 'are not those of the training annotations'),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(fruit, harm, message):
    harm(fruit)
    with pytest.raises(ValueError, match=message):
        use_folder(config(), str(fruit), BOTH)


def edit(path: Path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def rename_category(path: Path):
    edit(path, lambda content: content['categories'][0].update(name='pear'))


def test_missing_data_names_the_variable_and_the_shapes_twin(monkeypatch):
    monkeypatch.setenv('COCO_ROOT', 'nowhere')
    with pytest.raises(ValueError, match=r'no data folder nowhere\. Set COCO_ROOT to .* try configs/shapes/mask_rcnn_dysample_shapes\.py'):
        prepare_data(config(), ('train',))
    monkeypatch.setenv('ADE20K_ROOT', 'nowhere')
    with pytest.raises(ValueError, match=r'Set ADE20K_ROOT to .* configs/shapes/segformer_b1_dysample_shapes\.py'):
        prepare_data(config('segformer_b1_dysample.py'), ('test',))


def test_foreign_categories_without_the_flag(fruit, monkeypatch):
    monkeypatch.setenv('COCO_ROOT', str(fruit))
    cfg = config()
    cfg.train_dataloader.dataset.update(ann_file='annotations/instances_train_v3.json', data_prefix=dict(img='train_photos'))
    with pytest.raises(ValueError, match=r'has the categories apple, box, carrot, and the config the classes person, .* with --data-root'):
        prepare_data(cfg, ('train',))


def test_missing_images_and_annotations(shapes, tmp_path):
    root = tmp_path / 'coco'
    shutil.copytree(shapes / 'coco', root)
    cfg = Config.fromfile('configs/shapes/mask_rcnn_dysample_shapes.py')
    cfg.pop('shapes')
    cfg.train_dataloader.dataset.data_root = str(root)
    prepare_data(cfg, ('train',))
    shutil.rmtree(root / 'train2017')
    with pytest.raises(ValueError, match='there is no folder .*train2017'):
        prepare_data(cfg, ('train',))
    (root / 'annotations/instances_train2017.json').unlink()
    with pytest.raises(ValueError, match='there is no annotation file .*instances_train2017'):
        prepare_data(cfg, ('train',))


@pytest.fixture
def panoptic_fruit(shapes, tmp_path) -> Path:
    """The same with panoptic labels: three things and two kinds of stuff."""
    root = tmp_path / 'fruit'
    for split in ('train', 'val'):
        shutil.copytree(shapes / 'coco' / f'{split}2017', root / f'{split}_photos')
        shutil.copytree(shapes / f'coco/annotations/panoptic_{split}2017', root / f'annotations/panoptic_{split}_v3')
        content = read_coco(shapes / f'coco/annotations/panoptic_{split}2017.json')
        for category, name in zip(content['categories'], ('apple', 'box', 'carrot', 'sky', 'table')):
            category['name'] = name
        (root / f'annotations/panoptic_{split}_v3.json').write_text(json.dumps(content))
    return root


def test_panoptic_classes_and_paths_come_from_the_folder(panoptic_fruit):
    cfg = config('panoptic_fpn_dysample.py')
    found = use_folder(cfg, str(panoptic_fruit), BOTH)
    assert found[-1] == 'classes: 5 from the annotations (apple, box, carrot, sky, table)'
    assert cfg.model.roi_head.bbox_head.num_classes == cfg.model.roi_head.mask_head.num_classes == 3
    for part in (cfg.model.semantic_head, cfg.model.panoptic_fusion_head):
        assert (part.num_things_classes, part.num_stuff_classes) == (3, 2)
    for loader, split in ((cfg.train_dataloader, 'train'), (cfg.val_dataloader, 'val'), (cfg.test_dataloader, 'val')):
        assert loader.dataset.ann_file == str(panoptic_fruit / f'annotations/panoptic_{split}_v3.json')
        assert loader.dataset.data_prefix.seg == f'{panoptic_fruit}/annotations/panoptic_{split}_v3/'
        assert loader.dataset.metainfo.thing_classes == ('apple', 'box', 'carrot')
        assert loader.dataset.metainfo.stuff_classes == ('sky', 'table')
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        assert evaluator.ann_file == cfg.val_dataloader.dataset.ann_file
        assert evaluator.seg_prefix == cfg.val_dataloader.dataset.data_prefix.seg
    prepare_data(cfg, ('train', 'val', 'test'))


def test_panoptic_coco_itself_keeps_the_classes(coco128):
    cfg = config('panoptic_fpn_dysample.py')
    assert not any(line.startswith('classes') for line in use_folder(cfg, str(coco128), BOTH))
    prepare_data(cfg, ('train', 'val'))


@pytest.mark.parametrize(
    ('harm', 'message'),
    [
        (lambda folder: shutil.rmtree(folder / 'panoptic_val_v3'), r'no folder .*/panoptic_val_v3, which should hold the PNG files of'),
        (
            lambda folder: (shutil.rmtree(folder / 'panoptic_val_v3'), (folder / 'panoptic_val_v3.zip').touch()),
            r'no folder .*/panoptic_val_v3, .*\. Unpack .*/panoptic_val_v3\.zip$',
        ),
        (lambda folder: (folder / 'panoptic_val_v3.json').unlink(), r'one annotations/panoptic_val\*\.json, but holds none: give it with'),
        (
            lambda folder: edit(folder / 'panoptic_train_v3.json', lambda content: content['categories'].reverse()),
            r'the things among the categories of .* must come before the stuff, got table, sky, carrot, box, apple',
        ),
        (
            lambda folder: edit(folder / 'panoptic_train_v3.json', lambda content: content['categories'][0].pop('isthing')),
            "not in COCO's panoptic format: each category needs isthing",
        ),
    ],
)
def test_what_is_wrong_with_panoptic_labels_is_said(panoptic_fruit, harm, message):
    harm(panoptic_fruit / 'annotations')
    with pytest.raises(ValueError, match=message):
        use_folder(config('panoptic_fpn_dysample.py'), str(panoptic_fruit), BOTH)


def test_missing_panoptic_labels(shapes, tmp_path):
    root = tmp_path / 'coco'
    shutil.copytree(shapes / 'coco', root)
    cfg = config('panoptic_fpn_dysample.py')
    use_folder(cfg, str(root), BOTH)
    shutil.rmtree(root / 'annotations/panoptic_train2017')
    with pytest.raises(ValueError, match=r'there is no folder .*panoptic_train2017\. Set COCO_ROOT to .*panoptic_fpn_dysample_shapes'):
        prepare_data(cfg, ('train',))
    (root / 'annotations/panoptic_train2017.zip').touch()
    with pytest.raises(ValueError, match=r'there is no folder .*panoptic_train2017\. Unpack .*annotations/panoptic_train2017\.zip'):
        prepare_data(cfg, ('train',))
    shutil.copy(root / 'annotations/instances_train2017.json', root / 'annotations/panoptic_train2017.json')
    (root / 'annotations/panoptic_train2017').mkdir()
    with pytest.raises(ValueError, match=r"panoptic_train2017\.json is not in COCO's panoptic format"):
        prepare_data(cfg, ('train',))
    (root / 'annotations/panoptic_train2017.json').unlink()
    with pytest.raises(ValueError, match=r'there is no annotation file .*panoptic_train2017\.json\. Set COCO_ROOT to'):
        prepare_data(cfg, ('train',))


MASK2FORMER = 'mask2former/mask2former_r50_8xb2-lsj-50e_coco'


def test_a_config_that_inherits_a_folder_of_panoptic_labels(fruit):
    """mmdet's Mask2Former for instances inherits data_prefix.seg and the weights of 133 classes from the panoptic one."""
    cfg = Config.fromfile(mmdet_config(f'{MASK2FORMER}.py'))
    assert use_folder(cfg, str(fruit), BOTH)[-1].startswith('classes: 3')
    assert cfg.train_dataloader.dataset.data_prefix == dict(img=f'{fruit}/train_photos/')
    assert (cfg.model.panoptic_head.num_things_classes, cfg.model.panoptic_head.num_stuff_classes) == (3, 0)
    assert cfg.model.panoptic_head.loss_cls.class_weight == [1.0] * 3 + [0.1]
    prepare_data(cfg, ('train', 'val', 'test'))


@pytest.mark.parametrize('with_instances', [True, False])
def test_a_config_with_several_evaluators(panoptic_fruit, shapes, with_instances):
    cfg = Config.fromfile(mmdet_config(f'{MASK2FORMER}-panoptic.py'))
    boxes = panoptic_fruit / 'annotations/instances_val_v3.json'
    if with_instances:
        shutil.copy(shapes / 'coco/annotations/instances_val2017.json', boxes)
    found = use_folder(cfg, str(panoptic_fruit), BOTH)
    evaluators = {evaluator.type: evaluator.ann_file for evaluator in cfg.val_evaluator}
    panoptic = {'CocoPanopticMetric': str(panoptic_fruit / 'annotations/panoptic_val_v3.json')}
    assert evaluators == (panoptic | {'CocoMetric': str(boxes)} if with_instances else panoptic)
    assert any(line == f'left out: CocoMetric, because there is no {boxes}' for line in found) is not with_instances
    assert cfg.model.panoptic_head.loss_cls.class_weight == [1.0] * 5 + [0.1]
    prepare_data(cfg, ('train', 'val', 'test'))


@pytest.mark.parametrize(
    'name', sorted(path.name for path in Path('configs').glob('*.py') if 'rcnn' in path.name or 'det' in path.name or 'yolox' in path.name)
)
def test_every_detector_of_the_project(fruit, name):
    cfg = config(name)
    use_folder(cfg, str(fruit), BOTH)
    assert {value for key, value in numbers(cfg.model) if key == 'num_classes'} == {3}
    prepare_data(cfg, ('train', 'val', 'test'))


def numbers(node):
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield key, value
        yield from numbers(value) if isinstance(value, (dict, list)) else ()
