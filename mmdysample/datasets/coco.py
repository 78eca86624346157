"""Check annotations in COCO's format."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mmdysample.terminal.progress import progress

from .coco_boxes import check_boxes
from .coco_categories import check_category_ids, check_classes
from .coco_file import CocoFile, class_names, is_panoptic, kept_file, panoptic_classes, read_file
from .coco_images import check_files, mend_sizes
from .coco_left import check_left, images_left
from .coco_masks import check_masks, mend_masks
from .coco_panoptic import check_segments
from .findings import Finding
from .image_names import check_names, mend_names
from .mending import mend
from .source import Source, sources

EVALUATORS = ('CocoMetric', 'CocoPanopticMetric')
LONG = 100_000  # objects from which the checks are shown by a progress bar
Step = Callable[[], Iterator[Finding]]


def check_coco(source: Source, full: bool) -> Iterator[Finding]:
    """Check the annotation file of a dataset in COCO's format, and those of its evaluators.

    Args:
        source: The dataset.
        full: Whether to read all images, or only what takes seconds.

    Yields:
        What is wrong.

    Raises:
        ValueError: A file cannot be read at all.
    """
    if source.ann_file is None or 'Coco' not in source.kind:
        return
    file = read_file(source.ann_file)
    file.readers += max(1, sum(place.startswith(source.split) for place in source.places))
    yield from _run(file, _check_dataset(file, source, full))
    for path in truths(source):
        truth = read_file(path)
        truth.readers += 1
        if truth is not file:
            yield from _run(truth, _check_entries(truth, source, full))
            yield from _check_same_images(file, truth)


def truths(source: Source) -> Iterator[Path]:
    """Yield the annotation files of a split's evaluators."""
    for evaluator in source.evaluators:
        if str(evaluator.get('type')).split('.')[-1] in EVALUATORS and evaluator.get('ann_file'):
            yield Path(evaluator['ann_file'])


def _run(file: CocoFile, steps: list[Step]) -> Iterator[Finding]:
    long = len(file.content['annotations']) >= LONG
    for step in progress(steps, f'checking {file.path.name}') if long else steps:
        yield from step()


def _check_dataset(file: CocoFile, source: Source, full: bool) -> list[Step]:
    """Return the checks of the file that a dataset reads, in the order in which they build on each other."""
    if is_panoptic(source.dataset):
        panoptic_classes(file.path, file.content)
    folder = source.folders.get('img') or source.folders.get('img_path') or source.root
    categories = file.content['categories']
    classes = class_names(source.dataset) or [category['name'] for category in categories]
    chosen = {category['id'] for category in categories if category['name'] in classes}
    turned = _turns(source)

    def used() -> list[dict[str, Any]]:
        return images_left(file, source, chosen)

    steps: list[Step] = [
        lambda: check_classes(file.path, categories, classes),
        lambda: mend_names(file, folder),
        lambda: mend_sizes(file, folder, turned),
        *_check_entries(file, source, full),
        lambda: check_left(file, source, chosen),
        lambda: check_names(file, folder, used()),
        lambda: check_files(file, folder, used(), turned, full),
        lambda: _check_leak(file, source, folder),
    ]
    if file.panoptic and source.folders.get('seg'):
        steps.append(lambda: check_segments(file, source.folders['seg'], used(), full))
    return steps


def _check_entries(file: CocoFile, source: Source, full: bool) -> list[Step]:
    """Return the checks of a file by itself."""
    steps: list[Step] = [
        lambda: iter(file.findings),
        lambda: mend(file),
        lambda: check_category_ids(file.path, file.content['categories'], file.objects()),
        lambda: check_boxes(file),
    ]
    if _wants_masks(source) and not file.panoptic:
        polygons_only = source.step('LoadAnnotations').get('poly2mask') is False
        steps.append(lambda: _check_masks(file, full, polygons_only))
    return steps


def _check_masks(file: CocoFile, full: bool, polygons_only: bool) -> Iterator[Finding]:
    for finding in mend_masks(file):
        yield finding
        if finding.level == 'error':
            return
    yield from check_masks(file, full, polygons_only)


def _wants_masks(source: Source) -> bool:
    """Return True if a dataset loads masks, or if they are evaluated."""
    metrics = [evaluator.get('metric') for evaluator in source.evaluators]
    return bool(source.step('LoadAnnotations').get('with_mask')) or any(m and 'segm' in m for m in metrics)


def _turns(source: Source) -> bool:
    """Return True if images are loaded as their EXIF data turns them."""
    color_type = source.step('LoadImageFromFile').get('color_type', 'color')
    return 'ignore_orientation' not in color_type and color_type != 'unchanged'


def _check_same_images(file: CocoFile, truth: CocoFile) -> Iterator[Finding]:
    """Check that an evaluator's file has the images of the dataset."""
    ours, theirs = ({image['id'] for image in f.content['images']} for f in (file, truth))
    if odd := ours ^ theirs:
        what = f'images that are in only one of this file, which the evaluator reads, and {file.path}, which the dataset reads'
        yield Finding('error', truth.path, what, 'set ann_file of both to the same file', len(odd), f'id {min(odd, key=str)}')


def _check_leak(file: CocoFile, source: Source, folder: Path) -> Iterator[Finding]:
    """Check that none of the images was trained on, if the training annotations are in memory."""
    if source.split == 'train':
        return
    names = {os.path.normpath(os.path.join(folder, image['file_name'])) for image in file.content['images']}
    for other in sources(source.config, ('train',)):
        train = kept_file(other.ann_file) if other.ann_file else None
        if train:
            there = other.folders.get('img') or other.folders.get('img_path') or other.root
            shared = names & {os.path.normpath(os.path.join(there, str(image.get('file_name')))) for image in train.content['images']}
            if shared:
                what = f'of {len(names)} images are among the training images'
                example = os.path.basename(min(shared))
                yield Finding('warning', file.path, what, 'scores on them say nothing: use others', len(shared), example)
