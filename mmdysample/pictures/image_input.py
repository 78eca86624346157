"""Read an image and prepare it as the input of a model."""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import cv2
import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate

from mmdysample.datasets.check import prepare_data
from mmdysample.datasets.loading import build_dataset, is_cut_off
from mmdysample.datasets.source import kind_of, leaves, turns_images
from mmdysample.engine.errors import one_line, show_traceback
from mmdysample.engine.model import naming_the_config

from .loaded_model import LoadedModel, in_scope


@dataclass(frozen=True)
class ImageInput:
    """An image and the batch that a model gets for it."""

    path: str
    pixels: np.ndarray  # (h, w, 3), uint8, RGB: the image of the file
    data: dict[str, Any]  # a batch of one, for test_step
    scale: tuple[float, float]  # pixels of the network's input in a pixel of the file, x before y

    def named(self) -> AbstractContextManager:
        """Return a context in which a model's error about the size of the image names it; see :func:`naming_the_image`."""
        return naming_the_image(self.path, self.pixels)

    @property
    def name(self) -> str:
        """The name of the file."""
        return Path(self.path).name


def open_image(loaded: LoadedModel, image: Optional[str] = None, index: int = 0) -> ImageInput:
    """Read an image file, or else an image of the config's test set.

    Args:
        loaded: The model.
        image: A file in any format that mmcv reads.
        index: Index of the image in the test set, if there is no file.

    Raises:
        ValueError: There is no such image, or it cannot be read.
    """
    return read_image(loaded, image) if image is not None else image_of(loaded, build_test_set(loaded), index)


def read_image(loaded: LoadedModel, path: str) -> ImageInput:
    """Run an image file through the test pipeline, without the steps that read annotations.

    Raises:
        ValueError: There is no such file, or mmcv cannot read it.
    """
    pipeline = _pipeline(loaded.config)
    pixels = read_pixels(path, turns_images(pipeline))
    with naming_the_config(loaded.config), loaded.in_scope(), naming_the_image(path, pixels):
        item = Compose([step for step in pipeline if not _reads_annotations(step)])(dict(img_path=path, img_id=0))
    return _as_input(path, pixels, item, pipeline)


@contextmanager
def naming_the_image(path: str, pixels: np.ndarray) -> Iterator[None]:
    """Turn an error of a pipeline or a network about the size of an image into a ``ValueError`` of one line.

    Raises:
        ValueError: The model does not accept the image.
    """
    try:
        yield
    except (RuntimeError, cv2.error) as error:
        if show_traceback():
            raise
        height, width = pixels.shape[:2]
        raise ValueError(
            f'the model does not accept {path} of {width}x{height} pixels ({one_line(error)[:200]}): choose another image '
            '(MMDYSAMPLE_TRACEBACK=1 shows where)'
        ) from error


def build_test_set(loaded: LoadedModel) -> Any:
    """Build the test set of a model's config, with masks where the model predicts them.

    Raises:
        ValueError: The config has no test set, its data is missing, or it cannot be built.
    """
    config = loaded.config
    if not config.get('test_dataloader'):
        raise ValueError(f'{config.filename} has no test_dataloader and so no images: name an image with --image')
    prepare_data(config, ('test',))
    dataset = copy.deepcopy(config.test_dataloader.dataset)
    if config.get('default_scope') == 'mmdet' and getattr(loaded.model, 'with_mask', False):
        for step in dataset.get('pipeline', []):
            if kind_of(step) == 'LoadAnnotations':
                step['with_mask'] = True  # configs omit it, because evaluation reads the masks from the annotation file
    with naming_the_config(config), in_scope(config):
        return build_dataset(dataset)


def image_of(loaded: LoadedModel, dataset: Any, index: int) -> ImageInput:
    """Return an image of a test set, with its annotations.

    Raises:
        ValueError: There is no image of that index, or its files cannot be loaded.
    """
    if not 0 <= index < len(dataset):
        raise ValueError(f'the test set of {loaded.config.filename} has the images 0 to {len(dataset) - 1}, got --index {index}')
    with loaded.in_scope():
        item = dataset[index]
    path = item['data_samples'].img_path
    pipeline = _pipeline(loaded.config)
    return _as_input(path, read_pixels(path, turns_images(pipeline)), item, pipeline)


def read_pixels(path: str, turned: bool = True) -> np.ndarray:
    """Read an image.

    Args:
        path: The file.
        turned: Whether to turn it as its EXIF data says.

    Returns:
        ``(h, w, 3)``, uint8, RGB.

    Raises:
        ValueError: There is no such file, it is cut off, or mmcv cannot read it.
    """
    if not Path(path).is_file():
        raise ValueError(f'there is no image {path}')
    if is_cut_off(path):
        raise ValueError(f'{path} is cut off: the end of the JPEG image is missing')
    try:
        pixels = mmcv.imread(path, 'color' if turned else 'color_ignore_orientation')
    except Exception as error:  # each backend of mmcv raises another type
        raise ValueError(f'mmcv cannot read the image {path}') from error
    if pixels is None:
        raise ValueError(f'mmcv cannot read the image {path}')
    return mmcv.bgr2rgb(pixels)


def _pipeline(config: Config) -> list[dict[str, Any]]:
    dataset = next(leaves(config.get('test_dataloader') or {}), None)
    if not dataset or not dataset.get('pipeline'):
        raise ValueError(f'{config.filename} has no test pipeline to read an image with')
    return dataset['pipeline']


def _as_input(path: str, pixels: np.ndarray, item: dict[str, Any], pipeline: list[dict[str, Any]]) -> ImageInput:
    # A pipeline that pads records the scale in scale_factor; otherwise the size of the input gives the scale.
    if any(kind_of(step).endswith('Pad') for step in pipeline):
        scale = item['data_samples'].get('scale_factor', (1.0, 1.0))
    else:
        height, width = item['inputs'].shape[-2:]
        scale = width / pixels.shape[1], height / pixels.shape[0]
    return ImageInput(path, pixels, pseudo_collate([item]), (float(scale[0]), float(scale[1])))


def _reads_annotations(step: dict[str, Any]) -> bool:
    return kind_of(step).startswith('Load') and not kind_of(step).startswith('LoadImage')
