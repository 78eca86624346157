"""The images of COCO annotations: their names, sizes and files."""

import shutil

import cv2
import numpy as np
import pytest
from coco_folders import HEIGHT, WIDTH, config, each, lines, write
from PIL import Image, PngImagePlugin

from mmdysample.datasets.check import prepare_data
from mmdysample.datasets.coco.images import loaded_size
from mmdysample.datasets.coco.names import Files
from mmdysample.datasets.image_files import forget, header, listing, spread

pytest.importorskip('mmdet')


def save(pixels, name, **options):
    """Return a change that writes the first image anew, under a name of its own."""

    def change(values, folder):
        if pixels.ndim == 3 and pixels.dtype == np.uint16:
            cv2.imwrite(str(folder / name), pixels)
        else:
            Image.fromarray(pixels).save(folder / name, **options)
        values['images'][0]['file_name'] = name

    return change


def convert(mode, ending='png'):
    def change(values, folder):
        for image in values['images']:
            picture = Image.open(folder / image['file_name']).convert(mode)
            image['file_name'] = f'x{image["file_name"][:3]}.{ending}'
            picture.save(folder / image['file_name'])

    return change


def grey(largest, dtype=np.uint16):
    return np.linspace(0, largest, HEIGHT * WIDTH).astype(dtype).reshape(HEIGHT, WIDTH)


def turned(stored=True, orientation=6):
    """Images with a quarter turn in their EXIF data, and their size before it or after."""

    def change(values, folder):
        exif = Image.Exif()
        exif[0x112] = orientation
        for image in values['images']:
            picture = Image.new('RGB', (WIDTH, HEIGHT) if stored else (HEIGHT, WIDTH))
            image['file_name'] = image['file_name'].replace('png', 'jpg')
            picture.save(folder / image['file_name'], exif=exif)

    return change


@pytest.mark.parametrize('mode', ['L', 'P', 'RGBA', '1', 'LA'])
def test_images_of_other_modes_are_sound(tmp_path, mode):
    assert lines(write(tmp_path, convert(mode)), full=True) == []


@pytest.mark.parametrize(
    'change',
    [convert('CMYK', 'jpg'), convert('RGB', 'bmp'), convert('RGB', 'webp'), save(grey(65535), 'x.png')],
    ids=['CMYK', 'bmp', 'webp', '16 bits'],
)
def test_other_formats_are_sound(tmp_path, change):
    assert lines(write(tmp_path, change), full=True) == []


@pytest.mark.parametrize(
    ('change', 'largest'),
    [
        (save(grey(4095), 'x.png'), 4095),
        (save(grey(900), 'x.tif'), 900),
        (save(np.stack([grey(3000)] * 3, -1), 'x.png'), 3000),
    ],
    ids=['12 bits', 'tiff', 'colours'],
)
def test_16_bit_images_that_the_loader_would_turn_black(tmp_path, change, largest):
    (line,) = lines(write(tmp_path, change))
    assert line.startswith('warning: ')
    assert f'1 images with 16 bits per channel and small values, up to {largest} here (such as images[0], x.' in line
    path = next((tmp_path / 'train').glob('x.*'))
    assert f'{largest} becomes {cv2.imread(str(path)).max()} of 255' in line


@pytest.mark.parametrize('pixels', [b'', b'<html>404</html>', b'\x89PNG\r\n\x1a\n'], ids=['empty', 'page', 'cut'])
def test_unreadable_images(tmp_path, pixels):
    root = write(tmp_path, lambda values, folder: (folder / '001.png').write_bytes(pixels))
    (line,) = lines(root)
    assert line.startswith('error: ')
    assert '1 images that cannot be read (such as images[1], 001.png)' in line


def test_an_image_cut_short_is_found_by_the_full_check(tmp_path):
    def cut(values, folder):
        path = folder / '001.png'
        path.write_bytes(path.read_bytes()[:900])

    root = write(tmp_path, cut)
    assert lines(root) == []
    (line,) = lines(root, full=True)
    assert '1 images that cannot be read (such as images[1], 001.png)' in line


@pytest.mark.parametrize('ending', ['jpg', 'png', 'webp', 'tif'])
@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('size', [(WIDTH, HEIGHT), (HEIGHT, HEIGHT)], ids=['wide', 'square'])
def test_the_header_is_what_opencv_returns(tmp_path, ending, orientation, size):
    exif, path = Image.Exif(), tmp_path / f'x.{ending}'
    exif[0x112] = orientation
    corner = Image.new('RGB', size)
    corner.paste((250, 250, 250), (0, 0, 10, 20))
    corner.save(path, exif=exif, **(dict(lossless=True) if ending == 'webp' else {}))
    loads = {flag: cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR | flag) for flag in (0, cv2.IMREAD_IGNORE_ORIENTATION)}
    for flag, pixels in loads.items():
        assert loaded_size(header(path), turned=not flag) == pixels.shape[1::-1]
    stored = np.array(corner)[..., ::-1]
    same_size = loads[0].shape == stored.shape
    assert header(path).moved == (same_size and np.abs(loads[0].astype(int) - stored).max() > 100)


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></x:xmpmeta>'
NOT_TURNED = {
    'xmp.jpg': dict(xmp=XMP),
    'xmp.webp': dict(xmp=XMP),
    'xmp.tif': dict(xmp=XMP),
    'xmp.png': dict(pnginfo=PngImagePlugin.PngInfo()),
    'broken.jpg': dict(exif=b'Exif\x00\x00no tags at all'),
    'broken.webp': dict(exif=b'Exif\x00\x00no tags at all'),
    'broken.png': dict(exif=b'no tags at all'),
}
NOT_TURNED['xmp.png']['pnginfo'].add_itxt('XML:com.adobe.xmp', XMP.decode())


@pytest.mark.parametrize(('name', 'data'), NOT_TURNED.items(), ids=NOT_TURNED)
def test_xmp_data_and_broken_exif_data_turn_nothing(tmp_path, name, data):
    Image.new('RGB', (WIDTH, HEIGHT)).save(tmp_path / name, **data)
    assert cv2.imread(str(tmp_path / name)).shape[1::-1] == (WIDTH, HEIGHT)
    assert loaded_size(header(tmp_path / name), turned=True) == (WIDTH, HEIGHT)
    assert not header(tmp_path / name).moved


@pytest.mark.parametrize('dtype', [np.float32, np.int32])
def test_an_image_of_a_known_format_that_opencv_does_not_decode(tmp_path, dtype):
    (line,) = lines(write(tmp_path, save(grey(200, dtype), 'x.tif')))
    assert line.startswith('error: ')
    assert '1 images in a format that OpenCV does not read (such as images[0], x.tif)' in line


def test_large_texts_and_profiles_in_png_files_are_sound(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text('workflow', 'x' * 2**22, zip=True)
    profile = bytes(2**22)
    assert lines(write(tmp_path, save(grey(255, np.uint8), 'x.png', pnginfo=text, icc_profile=profile)), full=True) == []


def test_names_that_are_numbers_from_zero(tmp_path):
    def change(values, folder):
        for i, image in enumerate(values['images']):
            (folder / image['file_name']).rename(folder / f'{i}.png')
            image['file_name'] = i

    (line,) = lines(write(tmp_path, change))
    assert line.startswith('mended: ')
    assert '3 images whose files' in line


def test_names_with_the_folder_that_is_the_current_one(tmp_path, monkeypatch):
    root = write(tmp_path, each('images', lambda image: image.update(file_name=f'train/{image["file_name"]}')))
    monkeypatch.chdir(root / 'train')
    (line,) = lines(root, data_root='', ann_file='../train.json', data_prefix=dict(img=''))
    assert line.startswith('mended: ')


def test_sizes_before_a_turn(tmp_path):
    (line,) = lines(write(tmp_path, turned()))
    assert line.startswith('error: ')
    assert '3 images with a rotation in their EXIF data that their width and height in the annotations are without' in line
    assert 'color_type=color_ignore_orientation' in line
    pipeline = [dict(type='LoadImageFromFile', color_type='color_ignore_orientation'), dict(type='LoadAnnotations', with_bbox=True)]
    assert lines(tmp_path, pipeline=pipeline) == []


def test_sizes_after_a_turn_are_sound(tmp_path):
    assert lines(write(tmp_path, turned(stored=False))) == []


@pytest.mark.parametrize('orientation', [2, 3, 4])
def test_a_turn_that_sizes_do_not_show(tmp_path, orientation):
    (line,) = lines(write(tmp_path, turned(orientation=orientation)))
    assert line.startswith('warning: ')
    assert '3 images that the loader turns or mirrors as their EXIF data says' in line
    pipeline = [dict(type='LoadImageFromFile', color_type='color_ignore_orientation'), dict(type='LoadAnnotations', with_bbox=True)]
    assert lines(tmp_path, pipeline=pipeline) == []


def test_a_turn_that_the_sizes_of_other_images_confirm(tmp_path):
    def change(values, folder):
        turned(stored=False)(values, folder)
        exif = Image.Exif()
        exif[0x112] = 3
        Image.new('RGB', (WIDTH, HEIGHT)).save(folder / '001.jpg', exif=exif)

    assert lines(write(tmp_path, change)) == []


def test_missing_sizes_are_those_after_a_turn(tmp_path):
    def change(values, folder):
        turned(stored=False)(values, folder)
        each('images', lambda image: image.pop('width'))(values, folder)

    mended, warning = lines(write(tmp_path, change))
    assert mended.startswith('mended: ')
    assert '3 images without width or height' in mended
    # No size shows whether the boxes are turned.
    assert warning.startswith('warning: ')
    assert '3 images that the loader turns or mirrors as their EXIF data says' in warning


def test_tiff_files_are_turned_whatever_the_pipeline_says(tmp_path):
    def change(*orientations):
        def change(values, folder):
            for image, orientation in zip(values['images'], orientations):
                exif = Image.Exif()
                exif[0x112] = orientation
                image['file_name'] = image['file_name'].replace('png', 'tif')
                Image.new('RGB', (HEIGHT, WIDTH) if orientation > 4 else (WIDTH, HEIGHT)).save(folder / image['file_name'], exif=exif)

        return change

    pipeline = [dict(type='LoadImageFromFile', color_type='color_ignore_orientation'), dict(type='LoadAnnotations', with_bbox=True)]
    assert lines(write(tmp_path / 'confirmed', change(6, 3, 1)), pipeline=pipeline) == []
    (line,) = lines(write(tmp_path / 'unknown', change(1, 3, 1)), pipeline=pipeline)
    assert '1 images that the loader turns or mirrors' in line


@pytest.mark.parametrize('name', ["it's", 'a b', 'br[ack]ets', 'back\\slash', 'star*', 'ünï', 'per%20cent'])
def test_folders_of_any_name(tmp_path, name):
    root = write(tmp_path / name, splits=('train', 'val'))
    assert lines(root, splits=('train', 'val')) == []
    shutil.move(root / 'train/000.png', root / f'train/{name}.png')
    assert len(lines(root)) == 1


@pytest.mark.parametrize(
    ('name', 'found'),
    [
        ('a.JPG', 'a.jpg'),
        ('a', 'a.jpg'),
        ('sub\\b.jpg', 'sub/b.jpg'),
        ('photos/a.jpg', 'a.jpg'),
        ('/else/where/photos/sub/b.jpg', 'sub/b.jpg'),
        ('D:\\Photos\\A.jpg', 'a.jpg'),
        ('cafe\u0301.png', 'caf\u00e9.png'),
        ('caf%C3%A9.png', 'caf\u00e9.png'),
        (' a.jpg', 'a.jpg'),
        ('other/a.jpg', None),  # another folder may hold another image of this name
        ('a.png', None),
        ('b.jpg', None),
        ('c.JPG', None),  # two files differ in case only
    ],
)
def test_names_that_clearly_mean_a_file(tmp_path, name, found):
    folder = tmp_path / 'photos'
    (folder / 'sub').mkdir(parents=True)
    for file in ('a.jpg', 'sub/b.jpg', 'caf\u00e9.png', 'c.jpg', 'C.jpg'):
        (folder / file).touch()
    assert Files(folder).find(name) == found


def test_two_names_that_mean_one_file_are_left_alone(tmp_path):
    def change(values, folder):
        values['images'][0]['file_name'], values['images'][1]['file_name'] = 'train/002.png', 'TRAIN/002.png'

    (line,) = lines(write(tmp_path, change))
    assert line.startswith('error: ')
    assert '2 of 3 images are not in' in line


def test_the_listing_passes_over_hidden_files_and_circles(tmp_path):
    for name in ('a.jpg', '._a.jpg', 'sub/b.jpg', '.ipynb_checkpoints/a.jpg'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / 'sub/circle').symlink_to(tmp_path)
    forget()
    assert listing(tmp_path) == {'a.jpg', 'sub/b.jpg'}
    assert listing(tmp_path / 'none') == frozenset()


def test_spread_takes_both_ends():
    assert spread(range(10), 4) == [0, 3, 6, 9]
    assert spread('abc', 4) == ['a', 'b', 'c']
    assert spread(range(10), 1) == [0]


def test_headers(tmp_path):
    path = tmp_path / 'x.png'
    Image.fromarray(grey(9)).save(path)
    found = header(path)
    assert (found.width, found.height, found.bits, found.rotated, found.format) == (WIDTH, HEIGHT, 16, False, 'PNG')
    cv2.imwrite(str(path), np.zeros((4, 6, 3), np.uint16))
    assert (header(path).mode, header(path).bits) == ('RGB', 16)


def test_label_maps_beside_boxes(tmp_path):
    root = write(tmp_path)
    (root / 'maps').mkdir()
    for name in ('000', '001'):
        (root / f'maps/{name}_labels.png').touch()
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_seg=True)]
    (line,) = lines(root, data_prefix=dict(img='train', seg='maps'), seg_map_suffix='_labels.png', pipeline=pipeline)
    assert line.startswith('error: ')
    assert '1 images have no label map in' in line
    assert 'images[2], 002.png' in line


def test_mended_lines_are_printed_and_errors_raised(tmp_path, capsys):
    root = write(tmp_path, lambda values, folder: [each('annotations', lambda a: a.pop('iscrowd'))(values, folder), values['images'].pop()])
    prepare_data(config(root), ('train',))
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(':')[0] for line in printed] == ['mended', 'warning']
    (root / 'train/000.png').unlink()
    (root / 'train/001.png').write_bytes(b'')
    with pytest.raises(ValueError, match=r'000\.png.* \(and 1 more: python tools/check_data\.py shows all'):
        prepare_data(config(root), ('train',))
