"""Check annotations in COCO's format."""

import filecmp
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

from mmdysample.terminal.progress import progress

from ..findings import Finding
from ..image_files import spread
from ..source import Source, dataset_class, dataset_classes, kind_of, metric_class, sources
from .boxes import check_boxes
from .categories import check_category_ids, check_classes
from .file import CocoFile, is_panoptic, kept_file, panoptic_classes, read_file
from .images import check_files, mend_sizes
from .left import check_left, images_left
from .masks import check_masks, check_unused_masks, mend_masks
from .mending import mend
from .names import check_label_maps, check_names, mend_names
from .segments import check_segments

EVALUATORS = ('CocoMetric', 'CocoPanopticMetric', 'FasterCocoMetric')  # and what is derived from them
MASK_EVALUATORS = ('BoundaryAPMetric',)  # whose metric is not named
LONG = 100_000  # objects from which the checks are shown by a progress bar
QUICK = 200  # images of the same name as a training image that are compared with it
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
    if source.ann_file is None or not reads_coco(source):
        return
    file = read_file(source.ann_file)
    file.readers += max(1, sum(place.startswith(source.split) for place in source.places))
    yield from _run(file, _check_dataset(file, source, full))
    for path in dict.fromkeys(truths(source)):
        truth = read_file(path)
        truth.readers = inf  # an evaluator holds what it has read, so keeping it costs nothing
        if truth is not file:
            yield from _run(truth, _check_entries(truth, source, full))
            yield from _check_same_images(file, truth)


def reads_coco(source: Source) -> bool:
    """Return True if a dataset reads annotations in COCO's format as mmdet's ``CocoDataset`` does."""
    if source.kind in ('CocoDataset', 'CocoPanopticDataset'):
        return True
    if source.config.get('default_scope') != 'mmdet':
        return False
    from mmdet.datasets import CocoDataset

    cls: Any = dataset_class(source.config, source.dataset)
    derived = isinstance(cls, type) and issubclass(cls, CocoDataset)
    return derived and cls.load_data_list is CocoDataset.load_data_list  # LVIS, for example, has other keys


def truths(source: Source) -> Iterator[Path]:
    """Yield the annotation files of a split's evaluators."""
    for evaluator in source.evaluators:
        if evaluator.get('ann_file') and _derived(source, evaluator, EVALUATORS):
            yield Path(evaluator['ann_file'])


def image_folder(source: Source) -> Path:
    """Return the folder of a dataset's images."""
    return source.folders.get('img') or source.folders.get('img_path') or source.root


def _run(file: CocoFile, steps: list[Step]) -> Iterator[Finding]:
    long = len(file.content['annotations']) >= LONG
    for step in progress(steps, f'checking {file.path.name}') if long else steps:
        yield from step()


def _check_dataset(file: CocoFile, source: Source, full: bool) -> list[Step]:
    """Return the checks of the file that a dataset reads, in the order in which they build on each other."""
    if is_panoptic(source.dataset):
        panoptic_classes(file.path, file.content)
    folder, turned = image_folder(source), source.turned
    categories = file.content['categories']
    classes = dataset_classes(source.config, source.dataset) or [category['name'] for category in categories]
    chosen = {category['id'] for category in categories if category['name'] in classes}

    @cache
    def used() -> list[dict[str, Any]]:
        return images_left(file, source, chosen)

    steps: list[Step] = [
        lambda: check_classes(file.path, categories, classes),
        *_check_entries(file, source, full),
        lambda: check_left(file, source, chosen),
        lambda: check_names(file, folder, used()),
        lambda: check_files(file, folder, used(), turned, full),
        lambda: _check_leak(file, source, folder),
    ]
    if file.panoptic and source.folders.get('seg'):
        steps.append(lambda: check_segments(file, source.folders['seg'], used(), full))
    elif source.folders.get('seg') and source.step('LoadAnnotations').get('with_seg'):
        steps.append(lambda: check_label_maps(file, source.folders['seg'], used(), source.dataset.get('seg_map_suffix', '.png')))
    return steps


def _check_entries(file: CocoFile, source: Source, full: bool) -> list[Step]:
    """Return the checks of a file by itself."""
    folder, turned = image_folder(source), source.turned
    steps: list[Step] = [
        lambda: iter(file.findings),
        lambda: mend_names(file, folder),
        lambda: mend_sizes(file, folder, turned),
        lambda: mend(file),
        lambda: _check_categories(file),
        lambda: check_boxes(file),
    ]
    if _wants_masks(source) and not file.panoptic:
        polygons_only = source.step('LoadAnnotations').get('poly2mask') is False
        steps.append(lambda: _check_masks(file, full, polygons_only))
    elif not file.panoptic:
        steps.append(lambda: check_unused_masks(file, full))
    return steps


def _check_categories(file: CocoFile) -> Iterator[Finding]:
    categories = file.content['categories']
    yield from check_category_ids(file.path, categories, file.objects())
    if file.panoptic:  # mmdet passes over boxes of other categories, but fails at such segments
        known = {category['id'] for category in categories}
        for annotation in file.content['annotations']:
            annotation['segments_info'] = [s for s in annotation['segments_info'] if s['category_id'] in known]


def _check_masks(file: CocoFile, full: bool, polygons_only: bool) -> Iterator[Finding]:
    for finding in mend_masks(file):
        yield finding
        if finding.level == 'error':
            return
    yield from check_masks(file, full, polygons_only)


def _wants_masks(source: Source) -> bool:
    """Return True if a dataset loads masks, or if they are evaluated."""
    if source.step('LoadAnnotations').get('with_mask'):
        return True
    return any('segm' in (one.get('metric') or '') or _derived(source, one, MASK_EVALUATORS) for one in source.evaluators)


def _derived(source: Source, evaluator: dict[str, Any], names: Sequence[str]) -> bool:
    """Return True if the class of an evaluator has one of these names, or is derived from a class of such a name."""
    classes = getattr(metric_class(source.config, evaluator), '__mro__', ())
    return kind_of(evaluator) in names or any(cls.__name__ in names for cls in classes)


def _check_same_images(file: CocoFile, truth: CocoFile) -> Iterator[Finding]:
    """Check that an evaluator's file has the images of the dataset and, unless one of them is panoptic, the same objects."""
    ours, theirs = ({image['id'] for image in f.content['images']} for f in (file, truth))
    if odd := ours ^ theirs:
        what = f'images that are in only one of this file, which the evaluator reads, and {file.path}, which the dataset reads'
        yield Finding('error', truth.path, what, 'set ann_file of both to the same file', len(odd), f'id {min(odd, key=str)}')
    elif file.panoptic == truth.panoptic and (file.boxes.shape != truth.boxes.shape or (file.boxes != truth.boxes).any()):
        text = f'{truth.path}, which the evaluator reads, has other objects than {file.path}, which the dataset reads'
        yield Finding('warning', None, text, 'set ann_file of both to the same file, unless this is meant', count=None)


def _check_leak(file: CocoFile, source: Source, folder: Path) -> Iterator[Finding]:
    """Check that none of the images was trained on, if the training annotations are in memory."""
    if source.split == 'train':
        return
    names = {image['file_name'] for image in file.content['images']}
    for other in sources(source.config, ('train',)):
        train = kept_file(other.ann_file) if other.ann_file else None
        if not train:
            continue
        there = image_folder(other)
        theirs = {str(image.get('file_name')) for image in train.content['images']}
        if os.path.realpath(folder) == os.path.realpath(there):
            shared = names & theirs
        else:
            same_name = spread(sorted(names & theirs), QUICK)
            theirs = {os.path.normpath(there / name) for name in theirs}
            shared = {name for name in same_name if _equal(folder / name, there / name)}
            shared |= {name for name in names if os.path.normpath(folder / name) in theirs}
        if shared:
            more = 'or more ' if len(shared) == QUICK else ''
            what = f'{more}of {len(names)} images are among the training images'
            yield Finding('warning', file.path, what, 'scores on them say nothing: use others', len(shared), min(shared))


def _equal(one: Path, other: Path) -> bool:
    """Return True if two files hold the same."""
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)
