"""Label maps of one's own: folders, names of files, classes, and which values mean what."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmdysample.datasets.check import prepare_data
from mmdysample.datasets.custom import Split, use_folder

pytest.importorskip('mmseg')
BOTH = {'train': Split(), 'val': Split()}
SEGFORMER, UPERNET, SHAPES = 'segformer_b1_dysample.py', 'upernet_r50_dysample.py', 'shapes/segformer_b1_dysample_shapes.py'
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def config(name=SEGFORMER):
    return Config.fromfile(f'configs/{name}')


def write(
    root, values, n=3, splits=('train', 'val'), image='images/{}/{}.jpg', label='annotations/{}/{}.png', classes=None, stem='photo_{}'
):
    """Write images, and label maps whose pixels have the values, each in turn."""
    rng = np.random.default_rng(0)
    for split in splits:
        for i in range(n):
            for pattern in (image, label):
                (root / pattern.format(split, stem.format(i))).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).save(root / image.format(split, stem.format(i)))
            pixels = np.resize(np.array(values, np.uint8), (24, 24))
            Image.fromarray(pixels).save(root / label.format(split, stem.format(i)))
    if classes:
        (root / 'classes.txt').write_text('\n'.join(classes), encoding='utf-8')
    return root


def steps(cfg):
    return [step for name in LOADERS for step in cfg[name].dataset.pipeline if step.type == 'LoadAnnotations']


@pytest.mark.parametrize(
    ('values', 'zero'),
    [
        ([0, 1, 2], False),
        ([0, 1, 2, 255], False),
        ([0, 2], False),
        ([1, 2, 3], True),
        ([0, 1, 2, 3], True),
        ([1, 2, 3, 255], True),
        ([0, 3, 255], True),
        ([3], True),
        ([0], False),
    ],
)
@pytest.mark.parametrize('name', [SEGFORMER, UPERNET, SHAPES])
def test_everything_follows_the_names_and_the_values(tmp_path, values, zero, name):
    cfg = config(name)
    found = use_folder(cfg, write(tmp_path, values), BOTH, ['a', 'b', 'c'])
    assert found[3] == 'classes: 3 from --classes (a, b, c)'
    assert found[4].startswith(f'labels: values {int(zero)} to {2 + zero} are the classes, ignored: ')
    assert f'reduce_zero_label={zero}, --cfg-options train_dataloader.dataset.reduce_zero_label={not zero} says otherwise' in found[4]
    assert [line.startswith('warning: ') for line in found[5:]] == [True] * (zero and 0 in values)
    for loader in LOADERS:
        dataset = cfg[loader].dataset
        assert (dataset.type, dataset.img_suffix, dataset.seg_map_suffix) == ('BaseSegDataset', '.jpg', '.png')
        assert dataset.reduce_zero_label is zero
        assert dataset.metainfo.classes == ('a', 'b', 'c')
        assert len(dataset.metainfo.palette) == 3
    assert [step.reduce_zero_label for step in steps(cfg)] == [zero] * 3
    assert cfg.model.decode_head.num_classes == 3
    assert cfg.model.get('auxiliary_head', {'num_classes': 3})['num_classes'] == 3
    assert cfg.val_dataloader.batch_size == cfg.test_dataloader.batch_size == 1
    assert 'shapes' not in cfg
    prepare_data(cfg, ('train', 'val', 'test'))


def test_ignored_pixels_are_counted(tmp_path):
    lines = use_folder(config(), write(tmp_path, [0, 1, 2, 255], classes=['a', 'b']), BOTH)
    assert 'ignored: 0 (25.0% of the pixels) and 255 (25.0% of the pixels); reduce_zero_label=True' in lines[-2]
    assert lines[-2].endswith('(6 of 6 label maps read)')
    assert lines[-1].startswith('warning: 25.0% of the pixels have the value 0')
    assert lines[-1].endswith('name it first, as in --classes background,a,b')


def test_the_saved_config_is_complete(tmp_path):
    cfg = config(UPERNET)
    use_folder(cfg, write(tmp_path / 'data', [1, 2, 3]), BOTH, ['a', 'b', 'c'])
    cfg.dump(str(tmp_path / 'saved.py'))
    again = Config.fromfile(str(tmp_path / 'saved.py'))
    assert again.to_dict() == cfg.to_dict()
    prepare_data(again, ('train', 'val', 'test'))
    # With the flag, but on fewer classes, the names are still those of the saved config.
    copy = write(tmp_path / 'copy', [1], splits=['val'])
    assert use_folder(again, copy, {'val': Split()})[-1] == 'classes: the 3 that the config names (a, b, c)'
    assert again.val_dataloader.dataset.reduce_zero_label is True


@pytest.mark.parametrize(
    ('content', 'names'),
    [
        ('a\nb\nc', ('a', 'b', 'c')),
        ('\ufeffa\r\nb\r\nc\r\n', ('a', 'b', 'c')),
        ('# value 0 first\n\n  traffic light  \n\nb, with a comma\nc\n\n', ('traffic light', 'b, with a comma', 'c')),
        ('été\n木\nc', ('été', '木', 'c')),
    ],
)
def test_names_in_a_file(tmp_path, content, names):
    write(tmp_path, [0, 1, 2])
    (tmp_path / 'classes.txt').write_text(content, encoding='utf-8')
    cfg = config()
    use_folder(cfg, tmp_path, BOTH)
    assert cfg.train_dataloader.dataset.metainfo.classes == names


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'classes.txt names no class'),
        (b'# nothing\n', 'classes.txt names no class'),
        (b'a\nb\na\n', 'classes.txt names the class a more than once'),
        ('a\nb\nc'.encode('utf-16'), 'classes.txt is not text in UTF-8 .*: save it as UTF-8'),
    ],
)
def test_a_file_that_names_nothing(tmp_path, content, message):
    write(tmp_path, [0, 1, 2])
    (tmp_path / 'classes.txt').write_bytes(content)
    with pytest.raises(ValueError, match=message):
        use_folder(config(), tmp_path, BOTH)


@pytest.mark.parametrize(
    ('names', 'message'), [(['a', '', 'b'], 'has an empty name'), ([''], 'names no class'), (['a', 'a '], 'a more than once')]
)
def test_an_option_that_names_nothing(tmp_path, names, message):
    with pytest.raises(ValueError, match=f'--classes .*{message}'):
        use_folder(config(), write(tmp_path, [0, 1, 2]), BOTH, names)


def test_the_option_wins_over_the_file(tmp_path):
    cfg = config()
    use_folder(cfg, write(tmp_path, [0, 1], classes=['x', 'y', 'z']), BOTH, ['a', 'b'])
    assert cfg.test_dataloader.dataset.metainfo.classes == ('a', 'b')


@pytest.mark.parametrize(
    ('values', 'options', 'message'),
    [
        (
            [0, 1, 4],
            {},
            r'photo_0\.png holds the value 4, and the 3 classes of --classes \(a, b, c\) have the values 0 to 2: name the classes',
        ),
        ([1, 3, 4], {}, 'holds the value 4, and the 3 classes .* have the values 1 to 3'),
        ([1, 2], {}, '6 of 6 label maps were read, and none holds 0 or 3 .* add --cfg-options .*reduce_zero_label=False for 0'),
        ([1, 2, 3], {'train_dataloader.dataset.reduce_zero_label': False}, 'holds the value 3, .* have the values 0 to 2'),
        (
            [1, 2, 3],
            {'train_dataloader.dataset.reduce_zero_label': False, 'val_dataloader.dataset.reduce_zero_label': True},
            'gives reduce_zero_label different values: train_dataloader.dataset.reduce_zero_label=False, val_dataloader',
        ),
    ],
)
def test_values_that_contradict_the_names(tmp_path, values, options, message):
    with pytest.raises(ValueError, match=message):
        use_folder(config(), write(tmp_path, values), BOTH, ['a', 'b', 'c'], options)


@pytest.mark.parametrize(('values', 'zero'), [([1, 2], True), ([1, 2], False), ([0, 1, 2], True)])
def test_the_user_has_the_last_word_on_zero(tmp_path, values, zero):
    cfg = config()
    found = use_folder(cfg, write(tmp_path, values), BOTH, ['a', 'b', 'c'], {'train_dataloader.dataset.reduce_zero_label': zero})
    assert f'reduce_zero_label={zero}, as asked' in found[4]
    assert [step.reduce_zero_label for step in steps(cfg)] == [cfg[name].dataset.reduce_zero_label for name in LOADERS] == [zero] * 3


def test_names_by_options_of_the_config(tmp_path):
    cfg = config()
    options = {'train_dataloader.dataset.metainfo.classes': ('a', 'b'), 'val_dataloader.dataset.metainfo.palette': [[1, 2, 3], [4, 5, 6]]}
    cfg.merge_from_dict(options)
    use_folder(cfg, write(tmp_path, [0, 1]), BOTH, options=options)
    assert cfg.test_dataloader.dataset.metainfo.classes == ('a', 'b')
    assert cfg.val_dataloader.dataset.metainfo.palette == [[1, 2, 3], [4, 5, 6]]
    assert steps(cfg)[0].reduce_zero_label is False


@pytest.mark.parametrize(
    ('name', 'values'), [(SEGFORMER, range(5)), (SEGFORMER, range(20)), (SEGFORMER, [0, 255]), (SHAPES, [0, 1, 2]), (SHAPES, [0, 7])]
)
def test_labels_without_names_are_refused(tmp_path, name, values):
    """P20: they would be trained under the names of ADE20K or Shapes."""
    with pytest.raises(ValueError, match=r'has the value (150|5): name the classes .* --classes a,b,c, or one a line in .*classes\.txt'):
        use_folder(config(name), write(tmp_path, list(values)), BOTH)


def test_shapes_keep_their_names(shapes):
    cfg = config(SHAPES)
    found = use_folder(cfg, shapes / 'ade', BOTH)
    assert (
        found[-1]
        == 'classes: the 5 of the config (circle, square, triangle, wall, ground), because the highest value in the label maps is 5'
    )
    assert cfg.train_dataloader.dataset.reduce_zero_label is True
    prepare_data(cfg, ('train', 'val', 'test'))


@pytest.mark.parametrize('sign', ['objectInfo150.txt', 'sceneCategories.txt', 'names'])
def test_ade20k_keeps_its_names(tmp_path, sign):
    write(tmp_path, [0, 3], splits=('training', 'validation'), stem='ADE_0000{}' if sign == 'names' else '{}')
    if sign != 'names':
        (tmp_path / sign).touch()
    cfg = config()
    found = use_folder(cfg, tmp_path, BOTH)
    assert found[-1].startswith('classes: the 150 of the config (wall, building, sky, floor, tree, ... (150)), because ')
    assert cfg.train_dataloader.dataset.type == 'ADE20KDataset'
    assert cfg.model.decode_head.num_classes == 150
    prepare_data(cfg, ('train', 'val', 'test'))


def test_a_test_understands_the_labels_as_the_training_did(tmp_path):
    """The validation maps alone would count from 0."""
    write(tmp_path, [1, 2, 3], splits=['train'])
    write(tmp_path, [0, 1], splits=['val'])
    cfg = config()
    use_folder(cfg, tmp_path, {'val': Split()}, ['a', 'b', 'c'])
    assert cfg.test_dataloader.dataset.reduce_zero_label is True


FOLDERS = {
    'ade20k': (dict(splits=('training', 'validation')), BOTH),
    'train and val': (dict(), BOTH),
    'train and test': (dict(splits=('train', 'test')), BOTH),
    'numbered': (dict(splits=('train2019', 'val2019')), BOTH),
    'nuclei': (
        dict(image='{}/{}.png', label='labels/{}/{}.png'),
        {'train': Split('labels/train', 'train'), 'val': Split('labels/val', 'val')},
    ),
    'mask in the name': (dict(label='annotations/{}/{}_mask.png'), BOTH),
    'cityscapes': (
        dict(image='leftImg8bit/{}/aachen/{}_leftImg8bit.png', label='gtFine/{}/aachen/{}_gtFine_labelIds.png'),
        {'train': Split('gtFine/train', 'leftImg8bit/train'), 'val': Split('gtFine/val', 'leftImg8bit/val')},
    ),
    'capitals': (dict(image='images/{}/{}.JPG', label='annotations/{}/{}.PNG'), BOTH),
    'tiff': (dict(image='images/{}/{}.tif', label='annotations/{}/{}.tiff'), BOTH),
    'beside each other': (
        dict(image='{}/{}.jpg', label='{}/{}.png'),
        {'train': Split('train', 'train'), 'val': Split('val', 'val')},
    ),
    'without a separator': (dict(label='annotations/{}/{}mask.png'), BOTH),
    'dots and blanks': (dict(stem='slide 1.{}'), BOTH),
    'one is the start of another': (dict(n=12, label='annotations/{}/{}_m.png', stem='{}'), BOTH),
}


@pytest.mark.parametrize('layout', FOLDERS)
@pytest.mark.parametrize('name', [SEGFORMER, SHAPES])
def test_folders_and_names_of_files(tmp_path, layout, name):
    arguments, splits = FOLDERS[layout]
    root = write(tmp_path, [0, 1, 2], **arguments)
    cfg = config(name)
    use_folder(cfg, root, splits, ['a', 'b', 'c'])
    prepare_data(cfg, ('train', 'val', 'test'))
    for loader in LOADERS:
        assert len(built(cfg, loader)) == arguments.get('n', 3)


def built(cfg, loader):
    """The images of a loader, each of which has its label map."""
    from mmengine.registry import init_default_scope
    from mmseg.registry import DATASETS

    init_default_scope('mmseg')
    dataset = DATASETS.build({**cfg[loader].dataset, 'pipeline': []})
    pairs = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert all(Path(pair['seg_map_path']).is_file() for pair in pairs)
    return pairs


def test_images_and_maps_of_one_format_in_one_folder(tmp_path, capsys):
    same = {'train': Split('train', 'train'), 'val': Split('val', 'val')}
    root = write(tmp_path / 'masks', [0, 1, 2], image='{}/{}.png', label='{}/{}_mask.png')
    with pytest.raises(ValueError, match=r'does not tell images from maps: .* train_dataloader\.dataset\.img_suffix=_mask\.png$'):
        use_folder(config(), root, same, ['a', 'b', 'c'])
    root = write(tmp_path / 'photos', [0, 1, 2], image='{}/{}_rgb.png', label='{}/{}.png')
    cfg = config()
    use_folder(cfg, root, same, ['a', 'b', 'c'], {f'{loader}.dataset.img_suffix': '_rgb.png' for loader in LOADERS})
    capsys.readouterr()
    prepare_data(cfg, ('train', 'val', 'test'))
    assert capsys.readouterr().out == ''
    assert len(built(cfg, 'val_dataloader')) == 3


def test_hidden_files_are_passed_over(tmp_path):
    write(tmp_path, [0, 1, 2])
    for folder in ('images/train', 'annotations/train', 'annotations/val'):
        (tmp_path / folder / '._photo_0.png').write_bytes(b'\0\5\26\7')
        (tmp_path / folder / '.DS_Store').write_bytes(b'\0')
    cfg = config()
    use_folder(cfg, tmp_path, BOTH, ['a', 'b', 'c'])
    assert len(built(cfg, 'train_dataloader')) == 3


def rename(folder, *pairs):
    for old, new in pairs:
        (folder / old).rename(folder / new)


@pytest.mark.parametrize(
    ('harm', 'message'),
    [
        (
            lambda root: rename(root / 'images/train', ('photo_1.jpg', 'photo_1.JPG')),
            r'2 of the names in .*images/train end in \.jpg and 1 in \.JPG \(such as photo_1\.JPG\), .* train_\S*img_suffix=\.jpg',
        ),
        (
            lambda root: rename(root / 'annotations/val', ('photo_1.png', 'photo_1.PNG')),
            r'2 of the names in .*annotations/val end in \.png and 1 in \.PNG .* val_dataloader\.dataset\.seg_map_suffix=\.png',
        ),
        (
            lambda root: (
                [shutil.copy(f, f.with_name(f'{f.stem}_x.png')) for f in (root / 'annotations/val').iterdir()]
                + [f.rename(f.with_name(f'{f.stem}_y.png')) for f in (root / 'annotations/val').glob('*[0-9].png')]
            ),
            r'annotations/val has _x\.png and _y\.png for the same names: choose with --cfg-options val_\S*seg_map_suffix=_x\.png',
        ),
        (
            lambda root: [f.rename(f.with_name(f'mask-{f.stem}.png')) for f in (root / 'annotations/val').iterdir()],
            r'not have the names of the images in .* \(such as photo_0\.jpg and mask-photo_0\.png\): give each map the name',
        ),
        (
            lambda root: shutil.rmtree(root / 'annotations/val'),
            r'one annotations/val\*/ or annotations/test\*/, but holds none: give it with --val-ann',
        ),
        (lambda root: (root / 'images/train2').mkdir(), r'holds more than one \(train, train2\): give it with --train-img'),
        (lambda root: [f.unlink() for f in (root / 'images/val').iterdir()], r'there is no image in .*images/val \(looked for \.bmp'),
        (
            lambda root: Image.new('RGB', (24, 24)).save(root / 'annotations/val/photo_0.png'),
            r'photo_0\.png is no label map \(3 equal channels\): .* keep only the first',
        ),
        (
            lambda root: Image.new('RGB', (24, 24), (0, 0, 1)).save(root / 'annotations/val/photo_0.png'),
            r'photo_0\.png is no label map \(3 channels\): .* translate each colour',
        ),
        (
            lambda root: Image.fromarray(np.full((24, 24), 300, np.uint16)).save(root / 'annotations/val/photo_0.png'),
            r'photo_0\.png is no label map \(300 at x=0, y=0\): mmseg keeps only the lowest eight bits',
        ),
        (lambda root: (root / 'annotations/train/photo_0.png').write_bytes(b'<html>'), r'photo_0\.png is not an image'),
        (lambda root: (root / 'annotations/train/photo_0.png').write_bytes(b''), r'photo_0\.png is an empty file'),
        (
            lambda root: [Image.open(f).save(f, format='JPEG') for f in (root / 'annotations/train').iterdir()],
            r'photo_0\.png is no label map \(a JPEG file\): their compression changes labels',
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(tmp_path, harm, message):
    root = write(tmp_path, [0, 1, 2])
    harm(root)
    with pytest.raises(ValueError, match=message) as error:
        use_folder(config(), root, BOTH, ['a', 'b', 'c'])
    assert '\n' not in str(error.value)


def test_indices_stored_as_floats(tmp_path):
    write(tmp_path, [0, 1, 2])
    for path in sorted(tmp_path.glob('annotations/*/*.png')):
        Image.fromarray(np.array(Image.open(path), np.float32)).save(path.with_suffix('.tif'))
        path.unlink()
    cfg = config()
    assert use_folder(cfg, tmp_path, BOTH, ['a', 'b', 'c'])[4].startswith('labels: values 0 to 2 are the classes, ignored: none')
    prepare_data(cfg, ['train', 'val'])


def test_endings_by_options(tmp_path):
    write(tmp_path, [0, 1, 2])
    rename(tmp_path / 'images/train', ('photo_1.jpg', 'photo_1.JPG'))
    cfg, options = config(), {'train_dataloader.dataset.img_suffix': '.jpg'}
    cfg.merge_from_dict(options)
    use_folder(cfg, tmp_path, BOTH, ['a', 'b', 'c'], options)
    assert len(built(cfg, 'train_dataloader')) == 2


def test_a_file_where_a_folder_is_needed(tmp_path):
    write(tmp_path, [0, 1, 2], classes=['a', 'b', 'c'])
    with pytest.raises(ValueError, match='--train-ann takes a folder, and this is a file: .*classes.txt'):
        use_folder(config(), tmp_path, {'train': Split('classes.txt'), 'val': Split()})


@pytest.mark.parametrize('name', ["d'été", 'two words', 'back\\slash', '[1]', 'a"b', '木', '{x}', 'per%cent'])
def test_any_name_of_a_folder(tmp_path, name):
    root = write(tmp_path / name, [0, 1, 2], classes=["l'eau", 'b\\c', '[d]'])
    cfg = config()
    use_folder(cfg, root, BOTH)
    cfg.dump(str(tmp_path / 'saved.py'))
    again = Config.fromfile(str(tmp_path / 'saved.py'))
    assert again.to_dict() == cfg.to_dict()
    prepare_data(again, ('train', 'val', 'test'))
    assert len(built(again, 'train_dataloader')) == 3


def test_weights_of_the_classes_follow(tmp_path):
    cfg = config('maskformer_swin_b_dysample.py')
    cfg.model.decode_head.loss_mask.class_weight = [0.5] * 150
    use_folder(cfg, write(tmp_path, [0, 1, 2]), BOTH, ['a', 'b', 'c'])
    assert cfg.model.decode_head.num_classes == 3
    assert cfg.model.decode_head.out_channels == 256  # a width, not a number of classes
    assert cfg.model.decode_head.loss_cls.class_weight == [1.0] * 3 + [0.1]
    assert cfg.model.decode_head.loss_mask.class_weight == [0.5] * 3


def test_weights_one_by_one_are_asked_for(tmp_path):
    cfg = config()
    cfg.model.decode_head.loss_decode.class_weight = [1.0] * 149 + [2.0]
    with pytest.raises(ValueError, match=r'model\.decode_head\.loss_decode\.class_weight weighs the 150 classes of the config one by one'):
        use_folder(cfg, write(tmp_path, [0, 1, 2]), BOTH, ['a', 'b', 'c'])
    cfg.model.decode_head.loss_decode.class_weight = [1.0, 2.0, 3.0]
    use_folder(cfg, tmp_path, BOTH, ['a', 'b', 'c'])


def test_several_heads(tmp_path):
    cfg = config(UPERNET)
    cfg.model.auxiliary_head = [cfg.model.auxiliary_head, dict(cfg.model.auxiliary_head, out_channels=150)]
    use_folder(cfg, write(tmp_path, [0, 1, 2]), BOTH, ['a', 'b', 'c'])
    assert [head.num_classes for head in cfg.model.auxiliary_head] == [3, 3]
    assert cfg.model.auxiliary_head[1].out_channels == 3


def test_one_class_is_refused(tmp_path):
    cfg = config()
    use_folder(cfg, write(tmp_path, [0, 1]), BOTH, ['nucleus'])
    with pytest.raises(ValueError, match='name the background as a class too'):
        prepare_data(cfg, ('train',))


def test_repeated_and_concatenated_datasets(tmp_path):
    cfg = config()
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=3, dataset=dict(type='ConcatDataset', datasets=[cfg.train_dataloader.dataset] * 2)
    )
    use_folder(cfg, write(tmp_path, [0, 1, 2]), BOTH, ['a', 'b', 'c'])
    (leaf,) = cfg.train_dataloader.dataset.dataset.datasets
    assert leaf.metainfo.classes == ('a', 'b', 'c')
    prepare_data(cfg, ('train',))
