"""Compare the classes of a config's data with those that a checkpoint was trained on."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config

from mmdysample.datasets.coco.file import read_coco
from mmdysample.datasets.custom.classes import set_counts
from mmdysample.datasets.source import as_names, dataset_class, dataset_classes, leaves, metainfo

from .checkpoint import load_content

SHOWN = 20  # the longest list of classes that a message shows in full


def match_to_test(config: Config, checkpoint: str, all_occur: bool = False) -> list[str]:
    """Let the test data of a config number its classes as a checkpoint does, so that each prediction is compared with its own class.

    Args:
        config: The config, changed in place: the order of its classes and, if their number differs, every ``num_classes``.
        checkpoint: The file, already checked. One that does not name its classes changes nothing.
        all_occur: Whether the annotations must have all classes of the checkpoint.

    Returns:
        Lines for the user that say what is evaluated.

    Raises:
        ValueError: The classes differ in such a way that the score would be wrong. The message lists both.
    """
    theirs = checkpoint_classes(checkpoint)
    lines = []
    for dataset in leaves(config.get('test_dataloader') or {}):
        ours = dataset_classes(config, dataset)
        if not theirs and (dataset.get('metainfo') or {}).get('classes'):  # not those of COCO or ADE20K, which all have in one order
            lines.append(f'classes: {checkpoint} does not name its own; they are taken to be {_list(ours)}, in this order')
        if not theirs or not ours or ours == theirs:
            continue
        common = [name for name in theirs if name in ours]
        too_few = not common or (all_occur and len(common) < len(theirs)) or (_is_panoptic(dataset) and set(ours) != set(theirs))
        if too_few or not _by_name(config, dataset):
            raise ValueError(f'{_refusal(checkpoint, theirs, _data(dataset), ours)}; {_remedy(config, dataset, theirs, ours)}')
        if set(ours) == set(theirs):
            lines.append(f'classes: in the order of {checkpoint} ({_list(theirs)}), and not in that of {_data(dataset)} ({_list(ours)})')
        else:
            _refuse_a_choice(dataset, ours, checkpoint, theirs)
            _set_count(config, len(theirs))
            lines.append(
                f'warning: {checkpoint} was trained on {_list(theirs)}, and {_data(dataset)} has {_list(ours)}; '
                f'evaluated are {_list(common)}{_without(theirs, ours)}'
            )
        _rename(dataset, ours, theirs)
    return list(dict.fromkeys(lines))


def match_to_resume(config: Config, checkpoint: str) -> list[str]:
    """Let the data of a config number its classes as the checkpoint that training resumes from.

    Args:
        config: The config, changed in place: the order of its classes.
        checkpoint: As in :func:`match_to_test`.

    Returns:
        Lines for the user.

    Raises:
        ValueError: The data has other classes.
    """
    theirs = checkpoint_classes(checkpoint)
    lines = []
    for split in ('train', 'val', 'test'):
        for dataset in leaves(config.get(f'{split}_dataloader') or {}):
            ours = dataset_classes(config, dataset)
            if not theirs or not ours or ours == theirs:
                continue
            if set(ours) != set(theirs) or not _by_name(config, dataset):
                raise ValueError(
                    f'{_refusal(checkpoint, theirs, _data(dataset), ours)}; training cannot resume on other classes: start from the '
                    f'weights with --cfg-options load_from={checkpoint}, in another --work-dir'
                )
            lines.append(f'classes: in the order of {checkpoint} ({_list(theirs)}), and not in that of the data ({_list(ours)})')
            _rename(dataset, ours, theirs)
    return list(dict.fromkeys(lines))


def match_to_start(config: Config, checkpoint: str) -> list[str]:
    """Let the data of a config number its classes as the checkpoint that training starts from (``load_from``), if it has the same.

    Args:
        config: As in :func:`match_to_resume`.
        checkpoint: As in :func:`match_to_test`.

    Returns:
        Lines for the user. One says so if the head starts from the weights of as many other classes. Those of another number of classes
        have other shapes and are not loaded.
    """
    theirs = checkpoint_classes(checkpoint)
    dataset: Any = next(leaves(config.get('train_dataloader') or {}), {})
    ours = dataset_classes(config, dataset)
    if not theirs or not ours or ours == theirs or len(ours) != len(theirs):
        return []
    if set(ours) == set(theirs) and _by_name(config, dataset):
        return match_to_resume(config, checkpoint)
    return [
        f'warning: load_from={checkpoint} was trained on {_list(theirs)}, and the data has {_list(ours)}: the head starts from the weights '
        'of the former, in that order'
    ]


def take_classes(config: Config, checkpoint: str) -> None:
    """Give the test data of a config the names that a checkpoint has for its classes, to draw its predictions without annotations."""
    theirs = checkpoint_classes(checkpoint)
    for dataset in leaves(config.get('test_dataloader') or {}):
        ours = dataset_classes(config, dataset)
        if theirs and ours and ours != theirs:
            if len(ours) != len(theirs):
                _set_count(config, len(theirs))
            _rename(dataset, ours, theirs)


def checkpoint_classes(checkpoint: str) -> list[str]:
    """Return the classes that a checkpoint was trained on, as it names them; an empty list if it does not."""
    meta = load_content(checkpoint).get('meta')
    if not isinstance(meta, dict):
        return []
    inner = meta.get('dataset_meta')
    data = inner if isinstance(inner, dict) else meta
    return as_names({str(key).lower(): value for key, value in data.items()}.get('classes'))


def class_names(config: Config) -> tuple[list[str], Optional[list[Any]]]:
    """Return the classes of a config's test set and their colours, or None for the colours; the dataset is not read."""
    meta = metainfo(config, next(leaves(config.get('test_dataloader') or {}), {}))
    classes, palette = as_names(meta.get('classes')), meta.get('palette')
    # A config that names other classes inherits the palette of the dataset's class, whose length does not match.
    return classes, list(palette) if isinstance(palette, (list, tuple)) and len(palette) == len(classes) else None


def _by_name(config: Config, dataset: dict[str, Any]) -> bool:
    """Return True if the annotations of a dataset name the classes, so that it can number them in any order."""
    if config.get('default_scope') != 'mmdet':
        return False
    from mmdet.datasets import CocoDataset

    return getattr(dataset_class(config, dataset), 'load_data_list', None) is CocoDataset.load_data_list


def _is_panoptic(dataset: dict[str, Any]) -> bool:
    return bool((dataset.get('metainfo') or {}).get('thing_classes')) or 'Panoptic' in str(dataset.get('type'))


def _remedy(config: Config, dataset: dict[str, Any], theirs: list[str], ours: list[str]) -> str:
    if not _by_name(config, dataset):
        names = ','.join(theirs) if len(theirs) <= SHOWN else 'with its names'
        return f'if the data numbers the classes as the checkpoint does, name them so: --data-root DIR --classes "{names}"'
    folded = {name.strip().casefold() for name in theirs}
    same = [name for name in ours if name not in theirs and name.strip().casefold() in folded]
    return f'rename the categories that mean the same{", such as " * bool(same)}{_list(same)}, or use another checkpoint'


def _refuse_a_choice(dataset: dict[str, Any], ours: list[str], checkpoint: str, theirs: list[str]) -> None:
    """Raise ValueError if the config selects some classes of its annotations, of which a score of all classes of the model says nothing."""
    path = Path(dataset.get('data_root') or '', dataset['ann_file'])
    more = [category['name'] for category in read_coco(path)['categories'] if category['name'] not in ours and category['name'] in theirs]
    if more:
        raise ValueError(f'{_refusal(checkpoint, theirs, "the config", ours)}; {path} also has {_list(more)}')


def _rename(dataset: dict[str, Any], ours: list[str], theirs: list[str]) -> None:
    """Set the classes of a dataset. Each keeps its colour, and its place among the things or the stuff."""
    meta = dict(dataset.get('metainfo') or {})
    palette = meta.pop('palette', None)
    if palette is not None and len(palette) == len(ours) and set(theirs) <= set(ours):
        meta['palette'] = [palette[ours.index(name)] for name in theirs]
    for key in ('thing_classes', 'stuff_classes'):
        if key in meta:
            meta[key] = tuple(name for name in theirs if name in meta[key])
    dataset['metainfo'] = {**meta, 'classes': tuple(theirs)}


def _set_count(config: Config, count: int) -> None:
    """Set the number of classes of a model for boxes, masks or label maps. A panoptic model is tested only on as many as it has."""
    set_counts(config.model, dict(num_classes=count, num_things_classes=count, num_stuff_classes=0))


def _refusal(checkpoint: str, theirs: list[str], data: str, ours: list[str]) -> str:
    first = next(i for i in range(max(len(ours), len(theirs))) if ours[i : i + 1] != theirs[i : i + 1])
    where = f' (they differ from number {first + 1} on)' if set(ours) & set(theirs) else ''
    return f'{checkpoint} was trained on the classes {_list(theirs, first)}, and {data} has {_list(ours, first)}{where}'


def _list(names: Collection[str], first: int = 0) -> str:
    """Return a list of names; of a long one, its beginning and the part around a number."""
    shown = list(names)
    if len(shown) <= SHOWN:
        return ', '.join(shown)
    parts = [', '.join(shown[:3]), ', '.join(shown[max(3, first - 1) : first + 3])] if first else [', '.join(shown[:5])]
    return f'{", ..., ".join(filter(None, parts))}, ... ({len(shown)})'


def _without(theirs: Sequence[str], ours: Sequence[str]) -> str:
    unknown = [name for name in ours if name not in theirs]
    absent = [name for name in theirs if name not in ours]
    return f', without {_list(unknown)}, which the model does not know' * bool(unknown) + f'; {_list(absent)} does not occur' * bool(absent)


def _data(dataset: dict[str, Any]) -> str:
    return str(Path(dataset.get('data_root') or '', dataset.get('ann_file') or ''))
