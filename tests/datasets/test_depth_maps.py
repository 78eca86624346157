import re

import numpy as np
import pytest
from map_folders import SIZE, depth, each, found, read, rename, write
from PIL import Image

pytest.importorskip('mmseg')
SHAPES, NYU = 'shapes/depth_swin_t_dysample_shapes', 'depth_swin_t_dysample'
FACTOR = 'data__pipeline__1__depth_rescale_factor'


def keep(images, maps):
    pass


def folder(root, change=keep, values=None):
    write(root, depth() if values is None else values, ('train', 'test'), change)
    return root


def stored(ending, change):
    """Store the maps in another format."""

    def apply(images, maps):
        for path in sorted(maps.iterdir()):
            values = change(np.array(Image.open(path)).astype(np.float32))
            if ending == '.npy':
                np.save(path.with_suffix('.npy'), values)
            else:
                Image.fromarray(values).save(path.with_suffix(ending))
            path.unlink()

    return apply


def far(value):
    def change(values):
        values = values.copy()
        values[0] = value
        return values

    return change


def letters(images, maps):
    """Names without a digit."""
    for parent in (images, maps):
        for i, path in enumerate(sorted(parent.iterdir())):
            path.rename(path.with_name('abcdef'[i] + path.suffix))


SOUND = {
    'millimetres': (keep, {}),
    'some unknown': (each(far(0)), {}),
    'metres': (stored('.tif', lambda d: d / 1000), {FACTOR: 1.0, 'data__depth_map_suffix': '.tif'}),
    'NaN for unknown': (stored('.tif', far(np.nan)), {'data__depth_map_suffix': '.tif'}),
    'numpy': (stored('.npy', lambda d: d), {'data__depth_map_suffix': '.npy', 'data__pipeline__1__decode_backend': 'numpy'}),
    'a Mac': (lambda images, maps: (images / '._000.png').write_bytes(b'\0\5\26\7'), {}),
}


@pytest.mark.parametrize(('change', 'options'), SOUND.values(), ids=SOUND)
def test_sound(tmp_path, change, options):
    assert found(read(SHAPES, folder(tmp_path, change), **options), tmp_path) == []


SPOILED = {
    'centimetres': (
        each(lambda d: d // 10),
        {},
        r'warning: .*between 0.2 and 1 m .*in centimetres, set .*pipeline.1.depth_rescale_factor=0.01',
    ),
    'metres': (
        stored('.tif', lambda d: d / 1000),
        {'data__depth_map_suffix': '.tif'},
        r'warning: .*in metres, set .*depth_rescale_factor=1;',
    ),
    'KITTI': (each(lambda d: (d * 0.256).astype(np.uint16)), {}, r'warning: .*in 1/256 m, set .*depth_rescale_factor=0.0039'),
    'no factor': (
        keep,
        {FACTOR: 1.0},
        r'error: .*100 % of the depths are beyond the 20 m .*in millimetres, set .*depth_rescale_factor=0.001',
    ),
    'some far': (each(far(50_000)), {}, r'warning: .*5 % of the depths are beyond the 20 m of the model'),
    '8 bits': (each(lambda d: (d / 40).astype(np.uint8)), {FACTOR: 0.04}, r'warning: .*6 of 6 depth maps have 8 bits'),
    '65535': (each(far(65535)), {}, rf'warning: .*: {6 * SIZE} depths beyond the 20 m .* save 0 for them'),
    'infinity': (
        stored('.tif', far(np.inf)),
        {'data__depth_map_suffix': '.tif'},
        r'error: .*6 of 6 .* infinite depths .*save 0 for unknown',
    ),
    'colour': (
        each(lambda d: np.stack([(d / 40).astype(np.uint8)] * 3, 2)),
        {},
        r'error: .*6 of 6 depth maps are in colour .*000.png: 3 channels',
    ),
    'some empty': (each(lambda d: d * 0, 1), {}, r'warning: .*1 of 6 depth maps hold no known depth \(such as 001.png'),
    'all empty': (each(lambda d: d * 0), {}, r'error: .*6 of 6 depth maps hold no known depth'),
    'half': (each(lambda d: d[::2, ::2]), {}, r'error: .*000.png of 24x24 with 000.png of 12x12'),
    'no map': (lambda i, m: (m / '004.png').unlink(), {}, r'error: annotations/train: 1 depth maps are missing \(such as 004.png'),
    'cut off': (
        lambda i, m: (m / '004.png').write_bytes((m / '004.png').read_bytes()[:-20]),
        {},
        r'error: .*1 of 6 .* cannot be read .*004.png',
    ),
    'cut off, capitals': (
        lambda i, m: (rename(1, '.PNG')(i, m), (m / '004.PNG').write_bytes(b'')),
        {'data__depth_map_suffix': '.PNG'},
        r'error: .*1 of 6 .* cannot be read .*004.PNG is an empty file',
    ),
    'numpy': (
        stored('.npy', lambda d: d),
        {'data__depth_map_suffix': '.npy'},
        r'error: .*cannot be read .*pipeline.1.decode_backend=numpy',
    ),
    'other endings': (rename(0, '.PNG', 2), {}, r'warning: .*1 images are left out.*\(such as 002.PNG\)'),
    'longer names': (
        rename(1, '_depth.png'),
        {},
        r'error: .*missing .* --cfg-options train_dataloader.dataset.depth_map_suffix=_depth.png',
    ),
}


@pytest.mark.parametrize(('change', 'options', 'line'), SPOILED.values(), ids=SPOILED)
def test_spoiled(tmp_path, change, options, line):
    lines = found(read(SHAPES, folder(tmp_path, change), **options), tmp_path)
    assert len(lines) == 1
    assert re.match(line, lines[0]), lines


def test_names_without_a_digit(tmp_path):
    from mmengine.registry import DATASETS

    config = read(SHAPES, folder(tmp_path, letters))
    line = (
        "mended: images/train: 6 names have no digit, which mmseg's NYUDataset needs (such as a.png); mmdysample.NYUDataset is used instead"
    )
    assert found(config, tmp_path) == [line]
    config.train_dataloader.dataset.pipeline = []
    dataset = DATASETS.build(config.train_dataloader.dataset)
    assert [item['category_id'] for item in dataset] == [-1] * 6


def test_kinds_of_scenes_are_still_read_from_names(tmp_path):
    from mmengine.registry import DATASETS

    from mmdysample.datasets.nyu import NYUDataset

    config = read(SHAPES, folder(tmp_path), data__type='mmdysample.NYUDataset', data__pipeline=[])
    for path in (tmp_path / 'images/train').iterdir():
        path.rename(path.with_name(f'office_{path.name}'))
    kind = NYUDataset.METAINFO['classes'].index('office')
    assert {item['category_id'] for item in DATASETS.build(config.train_dataloader.dataset)} == {kind}


@pytest.mark.parametrize(
    ('size', 'line'),
    [
        ((480, 640), ''),
        ((60, 80), r'warning: .*6 depth maps are not of 640x480.* of 80x60\).*val_evaluator.crop_type=None test_evaluator.crop_type=None'),
        ((40, 80), r'error: .*6 depth maps are not of 640x480'),
    ],
)
def test_crop_of_the_evaluation(tmp_path, size, line):
    values = np.resize(np.linspace(500, 9_000, 97), size).astype(np.uint16)
    config = read(
        NYU, folder(tmp_path, keep, values), val_dataloader__dataset__img_suffix='.png', test_dataloader__dataset__img_suffix='.png'
    )
    lines = found(config, tmp_path, ('val', 'test'))
    assert len(lines) == bool(line)
    assert re.match(line, ''.join(lines))


def test_depths_that_the_evaluation_leaves_out(tmp_path):
    config = read(SHAPES, folder(tmp_path), val_evaluator__min_depth_eval=15)
    assert re.match(
        r'error: .*: 0 depths lie between min_depth_eval=15 and max_depth_eval=20 of val_', found(config, tmp_path, ('val',))[0]
    )


def test_shapes_are_sound(shapes):
    config = read(SHAPES, shapes / 'nyu')
    assert found(config, shapes, ('train', 'val', 'test')) == found(config, shapes, ('train', 'val', 'test'), full=True) == []
