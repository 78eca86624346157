"""Use a user's annotations in COCO's format."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from mmengine.config import Config

from mmdysample.terminal.text import short

from ..coco.file import is_panoptic, panoptic_classes, read_coco
from ..source import dataset_classes
from .classes import check_classes, make_palette, set_counts
from .places import Split, find


def use_coco(
    config: Config, folder: Path, splits: Mapping[str, Split], datasets: Mapping[str, list[dict]], chosen: Optional[Sequence[str]]
) -> list[str]:
    """Change a config so that it reads annotations in COCO's format.

    The annotations are ``annotations/instances_{train,val}*.json`` by default, and the images are in ``{train,val}*/``. For a panoptic
    config, the annotations are ``annotations/panoptic_{train,val}*.json``, and the PNG files are in a folder of the same name next to each
    file. If the categories differ from the classes of the config, the classes and every ``num_classes`` of the model are set from the
    annotations.

    Args:
        config: The config, changed in place.
        folder: The folder.
        splits: The paths that the user gave.
        datasets: The datasets of each split.
        chosen: The categories to use, or None for all.

    Returns:
        Lines for the user.

    Raises:
        ValueError: A file or a key in it is missing, there is more than one candidate, or the classes of the splits differ.
    """
    found = []
    every = [dataset for group in datasets.values() for dataset in group]
    panoptic = any(map(is_panoptic, every))
    if panoptic and chosen:
        raise ValueError('--classes is not for panoptic annotations, which label every pixel: all of their categories are used')
    names: list[str] = []
    classes: dict[str, tuple[str, ...]] = {}
    for split, where in splits.items():
        kind = 'panoptic' if panoptic else 'instances'
        ann = find(folder, where.ann, [f'annotations/{kind}_{split}*.json'], f'--{split}-ann')
        img = find(folder, where.img, [f'{split}*/'], f'--{split}-img')
        content = read_coco(ann)
        categories = [category['name'] for category in content['categories']]
        if names and sorted(categories) != sorted(names):
            raise ValueError(f'the categories of {ann} are not those of the training annotations: {short(categories)}; {short(names)}')
        if not names:
            names = categories
            classes = panoptic_classes(ann, content) if panoptic else dict(classes=_choose(names, chosen, ann))
        seg = ann.with_suffix('')
        if panoptic and not seg.is_dir():
            archive = seg.with_suffix('.zip')  # COCO's is in the archive of its annotations
            unpack = f'. Unpack {archive}' if archive.is_file() else ''
            raise ValueError(f'there is no folder {seg}, which should hold the PNG files of {ann.name}{unpack}')
        for dataset in datasets[split]:
            dataset.update(data_root=str(folder), ann_file=str(ann))
            # Assign, because ConfigDict.update would merge it with the config's own, and leave folders behind that are not here.
            dataset['data_prefix'] = dict(img=f'{img}/', seg=f'{seg}/') if panoptic else dict(img=f'{img}/')
        found.append(f'{split}: {ann}, images in {img}')
        if split == 'val':
            found += _set_evaluators(config, folder, ann, panoptic)

    wanted = list(classes['classes'])
    if chosen or any(dataset_classes(config, dataset) != wanted for dataset in every):
        for dataset in every:
            # Set a palette with the classes, because CocoDataset would keep the 80 colours of COCO.
            dataset['metainfo'] = dict(classes, palette=make_palette(len(wanted)))
        things = classes.get('thing_classes', classes['classes'])  # the classes of the detector; the semantic head predicts the stuff
        counts = dict(num_classes=len(things), num_things_classes=len(things), num_stuff_classes=len(wanted) - len(things))
        set_counts(config.get('model'), counts)
        of = f' of the {len(names)}' if len(wanted) < len(names) else ''
        found.append(f'classes: {len(wanted)}{of} from the annotations ({", ".join(wanted)})')
    return found


def _choose(names: list[str], chosen: Optional[Sequence[str]], ann: Path) -> tuple[str, ...]:
    """Return the chosen categories in the order of the annotation file."""
    if not chosen:
        return tuple(names)
    wanted = check_classes([chosen] if isinstance(chosen, str) else chosen, '--classes')
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ValueError(f'--classes names {", ".join(unknown)}, which is not among the categories of {ann}: {short(names)}')
    return tuple(name for name in names if name in wanted)


def _set_evaluators(config: Config, folder: Path, ann: Path, panoptic: bool) -> list[str]:
    """Set the annotations of the evaluators. Return lines for the user about those that are left out."""
    instances = ann
    if panoptic:  # mmdet's Mask2Former is also evaluated on the boxes and masks of the things
        instances = folder / 'annotations' / ann.name.replace('panoptic', 'instances', 1)
    left_out: list[str] = []
    for name in ('val_evaluator', 'test_evaluator'):
        evaluators = config.get(name) or []
        kept = [evaluator for evaluator in ([evaluators] if isinstance(evaluators, dict) else evaluators)]
        for evaluator in list(kept):
            if 'ann_file' not in evaluator:
                continue
            reads_panoptic = 'Panoptic' in str(evaluator.get('type'))
            evaluator['ann_file'] = str(ann if reads_panoptic else instances)
            if reads_panoptic:
                evaluator['seg_prefix'] = f'{ann.with_suffix("")}/'
            elif not instances.is_file():
                kept.remove(evaluator)
                left_out = [f'left out: {evaluator["type"]}, because there is no {instances}']
        if not isinstance(evaluators, dict):
            config[name] = kept
    return left_out
