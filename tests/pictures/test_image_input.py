import numpy as np
import pytest
from PIL import Image

from mmdysample.engine.classes import class_names
from mmdysample.engine.config import load_config
from mmdysample.pictures.image_input import read_image, read_pixels
from mmdysample.pictures.places import edge_and_flat


def test_a_photo_is_turned_as_its_camera_was_held(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:10, :15] = (250, 10, 10)
    Image.fromarray(pixels).save(tmp_path / 'photo.jpg', exif=exif, quality=95)
    turned = read_pixels(str(tmp_path / 'photo.jpg'))
    assert turned.shape == (30, 20, 3)
    assert np.abs(turned[5, 15].astype(int) - (250, 10, 10)).max() < 15  # RGB
    assert turned[5, 5].max() < 15


@pytest.mark.parametrize(
    ('config', 'size', 'expected', 'scale'),
    [
        ('configs/faster_rcnn_dysample.py', (500, 375), (1067, 800), 800 / 375),
        ('configs/yolox_tiny_dysample.py', (208, 104), (416, 416), 2.0),  # padded to a square
        ('configs/faster_rcnn_dysample.py', (3200, 5332), (800, 1333), 0.25),
        ('configs/shapes/faster_rcnn_dysample_shapes.py', (256, 512), (256, 512), 1.0),
    ],
)
def test_the_scale_between_file_and_network(tmp_path, config, size, expected, scale):
    pytest.importorskip('mmdet')
    from mmdysample.pictures.loaded_model import LoadedModel

    Image.new('L', size).save(tmp_path / 'grey.png')
    loaded = LoadedModel(load_config(config), None)
    shown = read_image(loaded, str(tmp_path / 'grey.png'))
    assert shown.pixels.shape == (size[1], size[0], 3)
    assert shown.data['inputs'][0].shape[:0:-1] == expected
    assert shown.scale == pytest.approx((scale, scale), rel=2e-3)


@pytest.mark.parametrize(('color_type', 'size'), [('color', (20, 30)), ('color_ignore_orientation', (30, 20))])
def test_the_picture_is_turned_as_the_pipeline_turns_it(tmp_path, color_type, size):
    pytest.importorskip('mmdet')
    from mmdysample.pictures.loaded_model import LoadedModel

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (30, 20)).save(tmp_path / 'photo.jpg', exif=exif)
    config = load_config('configs/shapes/faster_rcnn_dysample_shapes.py')
    config.test_dataloader.dataset.pipeline[0].color_type = color_type
    shown = read_image(LoadedModel(config, None), str(tmp_path / 'photo.jpg'))
    assert shown.pixels.shape[1::-1] == shown.data['data_samples'][0].ori_shape[::-1] == size


def test_places():
    pixels = np.random.default_rng(0).integers(100, 110, (60, 90, 3)).astype(np.uint8)
    pixels[20:40, :30] = 105
    pixels[:, 70:] += 100
    places = edge_and_flat(pixels, 4)
    assert abs(places['edge'][0] - 70) <= 4
    assert places['flat'][0] < 30
    assert 20 <= places['flat'][1] < 40
    assert edge_and_flat(pixels, 40) == {'middle': (45, 30)}


@pytest.mark.parametrize(
    ('config', 'count', 'coloured'),
    [
        ('configs/faster_rcnn_dysample.py', 80, True),
        ('configs/panoptic_fpn_dysample.py', 133, True),
        ('configs/segformer_b1_dysample.py', 150, True),
        ('configs/shapes/faster_rcnn_dysample_shapes.py', 3, False),  # the palette of COCO's 80 classes is not theirs
        ('configs/shapes/segformer_b1_dysample_shapes.py', 5, True),
    ],
)
def test_classes_are_known_without_the_data(config, count, coloured):
    pytest.importorskip('mmdet')
    pytest.importorskip('mmseg')
    classes, palette = class_names(load_config(config))
    assert len(classes) == count
    assert (palette is not None) is coloured
