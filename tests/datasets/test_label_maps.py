import errno
import os
import re
import shutil

import numpy as np
import pytest
from map_folders import each, found, label, read, rename, write
from mmengine.config import Config
from PIL import Image

from mmdysample.datasets.image_files import listing

pytest.importorskip('mmseg')
SHAPES, ADE = 'shapes/segformer_b1_dysample_shapes', 'segformer_b1_dysample'
# Label 0 is a class.
FROM_ZERO = dict(data__reduce_zero_label=False, data__pipeline__1__reduce_zero_label=False)


def keep(images, maps):
    pass


def folder(root, change=keep):
    write(root, label(), ('training', 'validation'), change)
    return root


def jpg(images, maps):
    for path in sorted(images.iterdir()):
        Image.open(path).save(path.with_suffix('.jpg'))
        path.unlink()


def palette(images, maps):
    for path in maps.iterdir():
        image = Image.open(path).convert('P')
        image.putdata(np.array(Image.open(path)).ravel().tolist())
        image.putpalette([255 - i // 3 for i in range(768)])
        image.save(path)


def tiff(scale):
    def change(images, maps):
        for path in sorted(maps.iterdir()):
            Image.fromarray(np.array(Image.open(path)).astype(np.float32) * scale).save(path.with_suffix('.tif'))
            path.unlink()

    return change


def turned(*pairs):
    """Images with an orientation in their EXIF data and a size before it, and maps of another size."""

    def change(images, maps):
        for path in [*images.iterdir(), *maps.iterdir()]:
            path.unlink()
        for i, (orientation, size, (width, height)) in enumerate(pairs):
            exif = Image.Exif()
            exif[0x0112] = orientation
            Image.new('RGB', size).save(images / f'{i:03}.jpg', exif=exif)
            Image.fromarray(label()[:height, :width]).save(maps / f'{i:03}.png')

    return change


def beside(name, content=b'x'):
    def change(images, maps):
        (images / name).parent.mkdir(exist_ok=True)
        (images / name).write_bytes((images / '000.png').read_bytes() if content is None else content)

    return change


def in_folders(images, maps):
    for parent in (images, maps):
        (parent / 'more').mkdir()
        for name in ('000.png', '001.png'):
            (parent / name).rename(parent / 'more' / name)


def odd_names(images, maps):
    for parent in (images, maps):
        for i, name in enumerate(("it's [1].png", 'a b.png', 'ü#%20.png', '*.png', '-x.png')):
            (parent / f'{i:03}.png').rename(parent / name)


def among(images, maps):
    for path in maps.iterdir():
        shutil.copy(path, images / f'{path.stem}_mask.png')


AMONG = dict(data__data_prefix=dict(img_path='images/training', seg_map_path='images/training'), data__seg_map_suffix='_mask.png')

SOUND = {
    'labels': (keep, {}),
    'palette': (palette, {}),
    '16 bits': (each(lambda a: a.astype(np.uint16)), {}),
    '65535 for ignored': (each(lambda a: np.where(a == 1, np.uint16(65535), a.astype(np.uint16)), 0), {}),
    'subfolders': (in_folders, {}),
    'odd names': (odd_names, {}),
    'a Mac': (beside('._000.png'), {}),
    'a preview of Windows': (beside('Thumbs.db'), {}),
    'copies of Jupyter': (beside('.ipynb_checkpoints/000-checkpoint.png', None), {}),
    'thumbnails of Synology': (beside('@eaDir/000.png', None), {}),
    'the root of a disk': (beside('lost+found/000.png', None), {}),
    'zeros that are a class': (each(lambda a: np.maximum(a, 1) - 1), FROM_ZERO),
    'maps among other images': (lambda i, m: (jpg(i, m), among(i, m)), {**AMONG, 'data__img_suffix': '.jpg'}),
    'selected': (lambda i, m: (m / '005.png').unlink(), dict(data__indices=5)),
    'no maps wanted': (lambda i, m: (m / '005.png').unlink(), dict(data__pipeline=[dict(type='LoadImageFromFile')])),
}


@pytest.mark.parametrize(('change', 'options'), SOUND.values(), ids=SOUND)
def test_sound(tmp_path, change, options):
    config = read(SHAPES, folder(tmp_path, change), **options)
    assert [line for line in found(config, tmp_path) if 'have no image' not in line] == []


SPOILED = {
    # values
    'beyond': (
        each(lambda a: np.where(a == 3, 9, a).astype(np.uint8), 1),
        {},
        r'error: .*/training: 1 of 6 .* 5 classes \(such as 001.png: 9 at x=0, y=6',
    ),
    'one more': (keep, FROM_ZERO, r'error: .*: 5 at .*if they begin at 1 and 0 is unlabelled, set .*dataset.reduce_zero_label=True'),
    'from one': (each(lambda a: np.maximum(a, 1)), FROM_ZERO, r'error: .*hold 1 to 5: if they begin at 1, set .*reduce_zero_label=True'),
    'grey levels': (each(lambda a: a * 50), FROM_ZERO, r'error: .*hold 0, 50, 100, 150, 200, 250: the labels of the classes are 0 to 4'),
    'masks': (each(lambda a: (a > 2).astype(np.uint8) * 255), FROM_ZERO, r'error: .*6 of 6 label maps hold only 0 and 255; .* such as 1'),
    'full masks': (each(lambda a: a * 0 + 255), FROM_ZERO, r'error: .*6 of 6 label maps hold only 255'),
    'masks, 0 ignored': (each(lambda a: (a > 2).astype(np.uint8) * 255), {}, r'error: .*6 of 6 label maps hold only 0 and 255'),
    'nothing labelled': (each(lambda a: a * 0), {}, r'error: .*6 of 6 .* only ignored labels .*is label 0 a class\? Then set .*=False'),
    'one unlabelled': (each(lambda a: a * 0, 3), {}, r'warning: .*1 of 6 .* only ignored labels \(such as 003.png\); nothing is learned'),
    'RGB': (
        each(lambda a: np.stack((a, a, 9 * a), 2)),
        {},
        r'error: .*6 of 6 .* in colour \(such as 000.png: 3 channels\).*translate each colour',
    ),
    'RGB of grey': (
        each(lambda a: np.stack((a, a, a), 2)),
        {},
        r'error: .*in colour \(such as 000.png: 3 equal channels\).*keep only the first',
    ),
    'RGBA': (each(lambda a: np.stack((a, a, a, a), 2), 5), {}, r'error: .*1 of 6 .*in colour \(such as 005.png: 4 equal channels'),
    'grey and alpha': (
        each(lambda a: np.stack((a, a * 0 + 255), 2), 5),
        {},
        r'error: .*1 of 6 .*in colour \(such as 005.png: 2 channels\).*only the first',
    ),
    'palette, cv2': (palette, {'data__pipeline__1__imdecode_backend': 'cv2'}, r'error: .*pipeline.1.imdecode_backend=pillow'),
    'beyond 8 bits': (
        each(lambda a: np.where(a == 3, np.uint16(300), a.astype(np.uint16)), 1),
        {},
        r'error: .*0 to 255 \(such as 001.png: 300 at x=0',
    ),
    'JPEG': (lambda i, m: Image.open(m / '000.png').save(m / '000.png', format='JPEG'), {}, r'error: .*1 of 6 label maps are JPEG files'),
    'fractions': (tiff(0.2), dict(data__seg_map_suffix='.tif'), r'error: .*6 of 6 .* fractions \(such as 000.tif: 0.2 at x=0, y=2'),
    'cut off': (
        lambda i, m: (m / '003.png').write_bytes((m / '003.png').read_bytes()[:60]),
        {},
        r'error: .*1 of 6 .* cannot be read .*003.png',
    ),
    'empty': (lambda i, m: (m / '003.png').write_bytes(b''), {}, r'error: .*1 of 6 .* cannot be read .*003.png is an empty file'),
    # whose classes
    'own, from zero': (
        each(lambda a: np.maximum(a, 1) - 1),
        {},
        r'warning: .*: 17 % of the pixels .* label 0.* are 0 to 4; if 0 is a class, set .*=False',
    ),
    'own, 255 ignored': (each(lambda a: a - 1), {}, r'warning: .*: 9 % of the pixels of 6 label maps have label 0.* are 0 to 4 and 255'),
    'own, one not seen': (each(lambda a: np.uint8([0, 1, 2, 2, 4, 0])[a]), {}, r'warning: .*: 59 % .* label 0.* are 0 to 2, 4; if 0'),
    'one class': (
        each(lambda a: a * 0 + 2),
        {},
        r'warning: .*1 classes occur in 6 label maps with the labels 2, where the config has circle',
    ),
    # sizes
    'half': (each(lambda a: a[::2, ::2]), {}, r'error: .*6 label maps have another size .*000.png of 24x24 with 000.png of 12x12'),
    'turned': (
        turned((6, (24, 12), (24, 12))),
        dict(data__img_suffix='.jpg'),
        r"error: .*000.jpg of 12x24 with 000.png of 24x12\); the image's EXIF data turns it",
    ),
    'upside down': (
        turned((3, (24, 12), (24, 12))),
        dict(data__img_suffix='.jpg'),
        r'warning: images/training: 1 images are turned by 180 degrees.* \(such as 000.jpg\); no size shows whether their label maps',
    ),
    'turned squares': (turned((6, (24, 24), (24, 24))), dict(data__img_suffix='.jpg'), r'warning: .*1 images are turned by 180 degrees'),
    # files
    'no map': (lambda i, m: (m / '004.png').unlink(), {}, r'error: annotations/training: 1 label maps are missing \(such as 004.png'),
    'no image': (lambda i, m: (i / '004.png').unlink(), {}, r'warning: annotations/training: 1 label maps have no image \(such as 004.png'),
    'broken image': (lambda i, m: (i / '004.png').write_bytes(b'x'), {}, r'error: images/training: 1 images cannot be read.*004.png'),
    'gone': (
        lambda i, m: ((i / '004.png').unlink(), (i / '004.png').symlink_to('x')),
        {},
        r'warning: .*1 images .* links to files that are gone',
    ),
    'other endings': (
        rename(0, '.PNG', 2),
        {},
        r'warning: .*1 images are left out.*end in .png \(such as 002.PNG\).*dataset.img_suffix=.PNG',
    ),
    'two endings': (
        lambda i, m: (rename(0, '.JPG')(i, m), rename(0, '.jpeg', 1)(i, m)),
        {},
        r'error: .*0 images end in .png; .*5 in .JPG, 1 in .jpeg',
    ),
    'no images': (
        lambda i, m: [path.unlink() for path in i.iterdir()],
        {},
        r'error: images/training: 0 images end in .png; .*holds no images',
    ),
    'letters': (
        lambda i, m: (i / '004.png').rename(i / 'a.png') and (m / '004.png').rename(m / 'A.png'),
        {},
        r'error: .*there is A.png: capital',
    ),
    'two kinds of maps': (
        lambda i, m: [
            shutil.copy(path, m / f'{path.stem}_grey.png') and path.rename(m / f'{path.stem}_ids.png') for path in list(m.iterdir())
        ],
        {},
        r'error: .*6 label maps are missing .*files of their names end in _grey.png or _ids.png: set the right one',
    ),
    'longer names': (
        rename(1, '_mask.png'),
        {},
        r'error: .*6 label maps are missing .* --cfg-options train_dataloader.dataset.seg_map_suffix=_mask.png',
    ),
    'lossy maps': (rename(1, '.jpg'), {}, r'error: .*6 label maps are missing .*they are .jpg files.*save them as PNG'),
    'maps among images': (among, AMONG, r'error: .*6 label maps are missing .*taken for images: give them a folder'),
    'images as maps': (keep, {**AMONG, 'data__seg_map_suffix': '.png'}, r'error: .*6 images are taken for their own label maps'),
}


@pytest.mark.parametrize(('change', 'options', 'line'), SPOILED.values(), ids=SPOILED)
def test_spoiled(tmp_path, change, options, line):
    lines = found(read(SHAPES, folder(tmp_path, change), **options), tmp_path)
    assert re.match(line, lines[0]), lines


def test_a_turn_that_the_sizes_of_other_maps_confirm(tmp_path):
    pairs = [(6, (12, 24), (24, 12)), (3, (24, 12), (24, 12))]
    for first, warned in ((0, False), (1, True)):
        config = read(SHAPES, folder(tmp_path / str(first), turned(*pairs[first:])), data__img_suffix='.jpg')
        assert any('turned by 180' in line for line in found(config, tmp_path)) == warned


def test_a_folder_without_permission_does_not_seem_empty(tmp_path, monkeypatch):
    """The refusal is stubbed, because root may read everything."""
    scandir = os.scandir

    def refuse(path):
        if str(path).rstrip('/').endswith('images/training/more'):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    config = read(SHAPES, folder(tmp_path, in_folders))
    monkeypatch.setattr(os, 'scandir', refuse)
    assert found(config, tmp_path) == ['error: images/training/more cannot be read: Permission denied']
    assert listing(tmp_path / 'images/validation')
    with pytest.raises(ValueError, match=f'^{tmp_path}/images/training/more/ cannot be read: Permission denied$'):
        listing(tmp_path / 'images/training')


def test_grey_and_coloured_maps_have_remedies_of_their_own(tmp_path):
    def spoil(images, maps):
        each(lambda a: np.stack((a, a, a), 2), 1)(images, maps)
        each(lambda a: np.stack((a, a, 9 * a), 2), 2)(images, maps)

    lines = found(read(SHAPES, folder(tmp_path, spoil)), tmp_path)
    assert re.match(r'error: .*1 of 6 .*001.png: 3 equal channels\).*keep only the first', lines[0])
    assert re.match(r'error: .*1 of 6 .*002.png: 3 channels\).*translate each colour', lines[1])


def test_both_splits_are_checked(tmp_path):
    lines = found(read(SHAPES, folder(tmp_path, each(lambda a: a + 3))), tmp_path, ('train', 'val', 'test'))
    assert [line.split(':')[1] for line in lines] == [' annotations/training', ' annotations/validation']


@pytest.mark.parametrize(
    ('change', 'line'),
    [
        (rename(0, '.JPG'), 'mended: images/training: 0 images end in .png; those in .JPG are used instead, with img_suffix=.JPG'),
        (rename(1, '.PNG'), 'mended: annotations/training: 0 label maps end in .png; those in .PNG are used, with seg_map_suffix=.PNG'),
    ],
)
def test_another_ending_is_used(tmp_path, change, line):
    config = read(SHAPES, folder(tmp_path, change))
    assert found(config, tmp_path, ('train', 'val')) == [line, line.replace('training', 'validation')]
    assert found(config, tmp_path, ('train', 'val', 'test')) == []


@pytest.mark.parametrize(
    ('text', 'line'),
    [
        ('000\r\n001\r\n', ''),
        ('000\n009\n', r'error: list.txt: 1 images of the list are missing \(such as 009.png'),
        ('000.png\n', r'error: list.txt: 1 images of the list are missing \(such as 000.png.png\).* without its ending .png'),
        ('000\n\n', r'error: list.txt: 1 images .* missing \(such as an empty line'),
        ('\ufeff000\n', r'error: list.txt: 1 images .* missing \(such as .\\ufeff000.png'),
        ('', r'error: list.txt: 0 images are named'),
        ('000\n000\n', r'warning: list.txt: 1 images are named more than once \(such as 000.png'),
    ],
)
def test_lists_of_images(tmp_path, text, line):
    (folder(tmp_path) / 'list.txt').write_text(text)
    lines = found(read(SHAPES, tmp_path, data__ann_file='list.txt'), tmp_path)
    assert len(lines) == bool(line)
    assert re.match(line, ''.join(lines))


def test_links_that_all_lead_nowhere(tmp_path):
    def change(images, maps):
        for path in images.iterdir():
            path.unlink()
            path.symlink_to('nowhere')

    assert found(read(SHAPES, folder(tmp_path, change)), tmp_path)[0].startswith(
        'error: images/training: 6 images are left out, as they are links'
    )


def test_links_that_lead_nowhere_hide_no_other_ending(tmp_path):
    def change(images, maps):
        (images / '004.png').unlink()
        (images / '004.png').symlink_to('nowhere')
        (images / '005.png').rename(images / '005.PNG')

    lines = found(read(SHAPES, folder(tmp_path, change)), tmp_path)
    assert [re.findall(r'such as (\S+)\)', line) for line in lines[:2]] == [['004.png'], ['005.PNG']]


def test_images_of_both_splits(tmp_path):
    def again(images, maps):
        if images.name == 'validation':
            shutil.copy(images.parent / 'training/003.png', images)
            shutil.copy(images.parent / 'training/004.png', images / '001.png')

    config = read(SHAPES, folder(tmp_path, again))
    for full, count in ((False, 1), (True, 2)):
        assert found(config, tmp_path, ('val',), full)[0].startswith(f'warning: images/validation: {count} images are training images')
    config.val_dataloader.dataset.data_prefix = config.train_dataloader.dataset.data_prefix
    assert 'warning: images/training: 6 images are training images' in found(config, tmp_path, ('val',))[0]
    config.val_dataloader.dataset = config.train_dataloader.dataset
    assert 'warning: images/training: 6 images are training images' in found(config, tmp_path, ('train', 'val'))[0]


def own(**options):
    """Options that name the classes of the training data."""
    return {**FROM_ZERO, 'data__metainfo': dict(classes=('a', 'b'), palette=[]), 'model__decode_head__num_classes': 2, **options}


CONFIGS = {
    'heads': (
        dict(model__decode_head__num_classes=4),
        r'error: .*do not predict the 5 classes .*set --cfg-options model.decode_head.num_classes=5',
    ),
    'one class': (
        own(data__metainfo=dict(classes=('a',), palette=[]), model__decode_head__num_classes=1),
        r'error: .*use_sigmoid \(model.decode_head\).* name the background as a class too.* model.decode_head.num_classes=2',
    ),
    'one class and none': (
        own(data__metainfo=dict(classes=('a',), palette=[]), model__decode_head__num_classes=1, model__decode_head__loss_cls={}),
        r'error: .* hold labels beyond the 1 classes',
    ),
    'one channel': (
        own(model__decode_head__out_channels=1),
        r'error: .*one channel .*set --cfg-options .*out_channels=1 .*use_sigmoid=True',
    ),
    'sigmoid': (own(model__decode_head__out_channels=1, model__decode_head__loss_decode__use_sigmoid=True), ''),
    'palette': (own(data__metainfo__palette=[[1, 2, 3]] * 5), r'mended: .*: 5 colours of the palette are for other classes than a, b'),
    'text': (
        dict(data__metainfo=dict(classes='thing', palette=[])),
        r"error: .*0 classes are named .*'thing' is neither a list nor a file",
    ),
    'no classes': (dict(data__metainfo=dict(_delete_=True)), r'error: .*0 classes are named .*metainfo.classes=ground,tree'),
    'reduce_zero_label': (
        dict(data__reduce_zero_label=False),
        r'error: .*LoadAnnotations is True, and that of BaseSegDataset is False; if 0 is a class, set .*reduce_zero_label=False; .*=True',
    ),
}


@pytest.mark.parametrize(('options', 'line'), CONFIGS.values(), ids=CONFIGS)
def test_classes_and_heads(tmp_path, options, line):
    lines = found(read(SHAPES, folder(tmp_path, each(lambda a: a % 2)), **options), tmp_path)
    assert re.match(line, (lines or [''])[0]), lines


def test_every_head_is_checked(tmp_path):
    head = dict(type='FCNHead', num_classes=9)
    lines = found(read(SHAPES, folder(tmp_path), model__auxiliary_head=[head, dict(head, type='STDCHead', num_classes=2)]), tmp_path)
    assert len(lines) == 1
    assert lines[0].endswith('model.auxiliary_head.0.num_classes=9); set --cfg-options model.auxiliary_head.0.num_classes=5')


def test_weights_of_classes(tmp_path):
    for count, wrong in ((4, True), (5, False), (6, False), (151, True)):
        lines = found(read(SHAPES, folder(tmp_path / str(count)), model__decode_head__loss_decode__class_weight=[1.0] * count), tmp_path)
        assert [f': {count} weights of classes for the 5 classes' in line for line in lines] == [True] * wrong


def test_classes_that_a_dataset_does_not_know(tmp_path):
    config = read(ADE, folder(tmp_path, jpg), data__metainfo=dict(classes=('a', 'b')))
    line = r'error: the ADE20KDataset of train_dataloader.dataset .*set --cfg-options .*dataset.type=BaseSegDataset'
    assert re.match(line, found(config, tmp_path)[0])


def test_few_of_many_classes(tmp_path):
    lines = found(read(ADE, folder(tmp_path, lambda i, m: (jpg(i, m), each(lambda a: np.maximum(a, 1))(i, m)))), tmp_path)
    assert len(lines) == 1
    assert re.match(r'warning: .*: 5 classes occur in 6 label maps with the labels 1 to 5, where the config has wall, .*\(150\)', lines[0])


def test_a_class_of_the_user(tmp_path):
    from mmseg.datasets import BaseSegDataset
    from mmseg.registry import DATASETS

    @DATASETS.register_module(name='Tissue', force=True)
    class Tissue(BaseSegDataset):
        METAINFO = dict(classes=tuple('abcde'))  # noqa: RUF012

        def __init__(self, data_root, data_prefix, pipeline):
            super().__init__(
                data_root=data_root, data_prefix=data_prefix, pipeline=pipeline, img_suffix='.png', reduce_zero_label=True, test_mode=True
            )

    config = read(SHAPES, folder(tmp_path, lambda images, maps: (maps / '004.png').unlink()))
    old = config.train_dataloader.dataset
    config.train_dataloader.dataset = dict(type='Tissue', **{key: old[key] for key in ('data_root', 'data_prefix', 'pipeline')})
    try:
        assert [line[:50] for line in found(config, tmp_path)] == ['error: annotations/training: 1 label maps are miss']
    finally:
        DATASETS.module_dict.pop('Tissue')


def test_nested_datasets_are_named_in_remedies(tmp_path):
    config = read(SHAPES, folder(tmp_path, rename(0, '.PNG', 2)))
    config.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=config.train_dataloader.dataset)
    assert 'train_dataloader.dataset.dataset.img_suffix=.PNG' in found(config, tmp_path)[0]


def test_shapes_are_sound(shapes):
    config = read(SHAPES, shapes / 'ade')
    assert found(config, shapes, ('train', 'val', 'test')) == found(config, shapes, ('train', 'val', 'test'), full=True) == []


def test_the_saved_config_has_what_was_mended(tmp_path):
    config = read(SHAPES, folder(tmp_path, rename(0, '.JPG')))
    found(config, tmp_path)
    config.dump(str(tmp_path / 'saved.py'))
    assert Config.fromfile(str(tmp_path / 'saved.py')).train_dataloader.dataset.img_suffix == '.JPG'
