"""Write Shapes scenes in the layouts of COCO, ADE20K and NYU Depth V2, which the dataset classes of mmdet and mmseg read.

::

    shapes.json                              the arguments of the dataset, see ShapesSpec
    coco/{train,val}2017/                    images
    coco/annotations/instances_*.json        boxes and masks
    coco/annotations/panoptic_*.json, */     segments, and PNG files with their ids as colours
    ade/images/{training,validation}/        the same images
    ade/annotations/{training,validation}/   0 = unlabelled, 1 .. 5 in the order of THINGS + STUFF
    nyu/images/{train,test}/                 the same images
    nyu/annotations/{train,test}/            depth in millimetres, 16 bits
"""

import json
import shutil
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as rle
from rich.progress import track

from .shapes import STUFF, THINGS, Scene, render

VAL_START = 1_000_000  # the index of the first validation scene, beyond the training scenes of any dataset


@dataclass(frozen=True)
class ShapesSpec:
    """The arguments of a dataset: the numbers of training and validation images, their height and width in pixels, and the seed."""

    train: int = 256
    val: int = 64
    size: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.train, self.val) < 1 or self.size < 32:
            raise ValueError(f'shapes needs train >= 1, val >= 1 and size >= 32, got {self}')


def ensure_shapes(root: Path, spec: ShapesSpec) -> None:
    """Write the scenes to a folder, unless it holds them already.

    The scenes are written to a temporary folder, which is then renamed. An interrupted run thus leaves no incomplete dataset, and if two
    processes write at the same time, the dataset of one of them is kept.

    Args:
        root: The folder.
        spec: The arguments of the dataset.

    Raises:
        ValueError: The folder holds other files or a dataset with other arguments.
    """
    if root.exists():
        _check(root, spec)
        _ensure_depth(root, spec)
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f'.{root.name}-', dir=root.parent))
    try:
        _write(draft, spec)
        _write_depth(draft / 'nyu', spec)
        draft.chmod(0o755)  # only its owner can read a temporary folder
        try:
            draft.rename(root)
        except OSError:  # another process has renamed its folder first
            _check(root, spec)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _check(root: Path, spec: ShapesSpec) -> None:
    note = root / 'shapes.json'
    found = json.loads(note.read_text(encoding='utf-8')) if note.exists() else None
    if found != asdict(spec):
        raise ValueError(
            f'{root} does not hold the Shapes scenes that the config asks for: it holds {found or "something else"}, and the config '
            f'asks for {asdict(spec)}. Remove the folder, or set SHAPES_ROOT to another'
        )


def _write(root: Path, spec: ShapesSpec) -> None:
    for coco_split, ade_split, start, count in (('train2017', 'training', 0, spec.train), ('val2017', 'validation', VAL_START, spec.val)):
        folders = {
            'image': root / 'coco' / coco_split,
            'panoptic': root / 'coco/annotations' / f'panoptic_{coco_split}',
            'ade_image': root / 'ade/images' / ade_split,
            'semantic': root / 'ade/annotations' / ade_split,
        }
        for folder in folders.values():
            folder.mkdir(parents=True)
        instances, panoptic = _empty_coco(), _empty_coco()
        for i in track(range(count), description=f'Shapes: {coco_split}', transient=True):
            scene = render(start + i, spec.seed, spec.size)
            name = f'{i:06d}.png'
            _save(folders['image'] / name, scene.image)
            _save(folders['ade_image'] / name, scene.image)
            _save(folders['semantic'] / name, scene.semantic + 1)
            image = {'id': i, 'file_name': name, 'height': spec.size, 'width': spec.size}
            instances['images'].append(image)
            panoptic['images'].append(image)
            instances['annotations'] += _instances(scene, i, first_id=len(instances['annotations']) + 1)
            segments, ids = _segments(scene)
            panoptic['annotations'].append({'image_id': i, 'file_name': name, 'segments_info': segments})
            _save(folders['panoptic'] / name, _id_to_rgb(ids))
        things = range(1, len(THINGS) + 1)
        instances['categories'] = [c for c in panoptic['categories'] if c['id'] in things]
        for kind, content in (('instances', instances), ('panoptic', panoptic)):
            (root / 'coco/annotations' / f'{kind}_{coco_split}.json').write_text(json.dumps(content), encoding='utf-8')
    (root / 'shapes.json').write_text(json.dumps(asdict(spec)), encoding='utf-8')


def _ensure_depth(root: Path, spec: ShapesSpec) -> None:
    """Add the depth labels to a dataset of an older version, which had none."""
    folder = root / 'nyu'
    if folder.exists():
        return
    draft = Path(tempfile.mkdtemp(prefix='.nyu-', dir=root))
    try:
        _write_depth(draft, spec)
        draft.chmod(0o755)
        with suppress(OSError):  # another process has renamed its folder first
            draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write_depth(folder: Path, spec: ShapesSpec) -> None:
    """Write the images, and their depth in whole millimetres. Rounding changes a depth by at most 0.03 %. NYU uses 0 for unknown."""
    for split, start, count in (('train', 0, spec.train), ('test', VAL_START, spec.val)):
        for kind in ('images', 'annotations'):
            (folder / kind / split).mkdir(parents=True)
        for i in track(range(count), description=f'Shapes: depth of {split}', transient=True):
            scene = render(start + i, spec.seed, spec.size)
            _save(folder / 'images' / split / f'{i:06d}.png', scene.image)
            _save(folder / 'annotations' / split / f'{i:06d}.png', np.round(1000 * scene.depth).astype(np.uint16))


def _empty_coco() -> dict[str, list]:
    categories = [{'id': i + 1, 'name': name, 'isthing': int(name in THINGS)} for i, name in enumerate(THINGS + STUFF)]
    return {'images': [], 'annotations': [], 'categories': categories}


def _instances(scene: Scene, image_id: int, first_id: int) -> list[dict]:
    return [
        {'id': first_id + i, 'image_id': image_id, 'category_id': category + 1, 'iscrowd': 0, **_box(mask), 'segmentation': _encode(mask)}
        for i, (category, mask) in enumerate(scene.instances)
    ]


def _segments(scene: Scene) -> tuple[list[dict], np.ndarray]:
    """Return the panoptic segments of a scene, and the map of their ids, ``(H, W)``."""
    stuff = [(len(THINGS) + i, scene.semantic == len(THINGS) + i) for i in range(len(STUFF))]
    ids = np.zeros(scene.semantic.shape, np.uint32)
    segments: list[dict] = []
    for category, mask in [*scene.instances, *stuff]:
        if mask.any():
            segment_id = len(segments) + 1
            ids[mask] = segment_id
            segments.append({'id': segment_id, 'category_id': category + 1, 'iscrowd': 0, **_box(mask)})
    return segments, ids


def _box(mask: np.ndarray) -> dict:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return {'bbox': [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y], 'area': int(mask.sum())}


def _encode(mask: np.ndarray) -> dict:
    encoded = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {'size': encoded['size'], 'counts': encoded['counts'].decode()}


def _id_to_rgb(ids: np.ndarray) -> np.ndarray:
    """Return COCO's panoptic colours of ids: ``id = R + 256 G + 65536 B``."""
    return np.stack([ids >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


def _save(path: Path, image: np.ndarray) -> None:
    cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image)
