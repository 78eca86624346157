"""Use a user's label maps and classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config

from mmdysample.terminal.text import short

from ..image_files import listing, spread
from ..maps.class_counts import IGNORED, MUCH
from .asked import asked_for
from .classes import FILE, check_classes, make_palette, read_classes, set_counts
from .maps import MapFolders, use_maps
from .places import Split
from .stock import Stock, stock
from .values import LabelValues, read_values

READ = 300  # label maps of each split that are read to see what they hold
ADE20K = ('objectInfo150.txt', 'sceneCategories.txt')
ZERO = 'reduce_zero_label'
NAME_THEM = 'name the classes in the order of their values with --classes a,b,c, or one a line in {}'


def use_label_maps(
    config: Config,
    folder: Path,
    splits: Mapping[str, Split],
    datasets: Mapping[str, list[dict[str, Any]]],
    classes: Optional[Sequence[str]],
    options: Mapping[str, Any],
) -> list[str]:
    """Change a config so that it reads label maps, and predicts the classes that they hold.

    The folders are those of the config, or else ``images/{train,val}*/`` and ``annotations/{train,val}*/``. The names of the classes are
    given, or are in ``classes.txt`` in the folder. The classes of the config are kept if its own file names them, or if the label maps are
    ADE20K's or hold exactly as many classes. Otherwise every ``num_classes`` of the model follows the names, and ``reduce_zero_label``
    what the label maps hold: whether their classes count from 0, or from 1 with 0 for pixels to ignore.

    Args:
        config: The config, changed in place.
        folder: The folder.
        splits: The paths that the user gave.
        datasets: The datasets of each split.
        classes: The names of the classes.
        options: What ``--cfg-options`` changed.

    Returns:
        Lines for the user.

    Raises:
        ValueError: A folder is missing, the names of images and maps do not belong together, or the classes do not fit the label maps.
    """
    every = [dataset for group in datasets.values() for dataset in group]
    own = stock(config, every[0])
    named_by_config = 'shapes' not in config and bool((every[0].get('metainfo') or {}).get('classes'))
    folders, lines = use_maps(config, folder, splits, datasets, options, 'seg_map_path', ('val*/', 'test*/'))
    source = '--classes' if classes else FILE
    names = check_classes([classes] if isinstance(classes, str) else classes, source) if classes else read_classes(folder)
    asked = asked_for(options, ZERO)
    if not classes and named_by_config and names in (None, own.classes):
        return [*lines, f'classes: the {len(own.classes)} that the config names ({", ".join(own.classes)})']
    if names is None:
        why = _why_ade20k(folder, folders, own) or _why_as_many(folder, own, _values(folders))
        return [*lines, f'classes: the {len(own.classes)} of the config ({short(list(own.classes))}), because {why}']
    values = _values(folders)
    zero = asked if asked is not None else _count_from_one(len(names), values)
    _check_range(names, zero, values, source)
    for dataset in every:
        scope = str(dataset['type']).rpartition('.')[0]
        dataset['type'] = f'{scope}.BaseSegDataset' if scope else 'BaseSegDataset'  # the class of ADE20K, say, allows only its own classes
        dataset['metainfo'] = dict(classes=names, palette=make_palette(len(names)))
        dataset[ZERO] = zero
    for node in (*(config.get(f'{split}_dataloader') for split in ('train', 'val', 'test')), config.get('tta_pipeline')):
        _set_zero(node, zero)
    set_counts(config.get('model'), dict(num_classes=len(names)))
    return [*lines, f'classes: {len(names)} from {source} ({", ".join(names)})', *_describe(zero, names, values, asked is not None)]


def _values(folders: Mapping[str, MapFolders]) -> LabelValues:
    """Read a sample of the label maps. For a test, read those of the training data too, so that they are understood in the same way."""
    maps = {}
    for split in folders.values():
        beside = [] if 'train' in folders else sorted(split.maps.parent.glob('train*/'))
        for place in (split.maps, *beside):
            images = split.suffixes.image if split.images == split.maps else None  # '_rgb.png' beside maps in '.png'
            names = (name for name in listing(place) if name.endswith(split.suffixes.map))
            maps[place] = sorted(name for name in names if not images or not name.endswith(images))
    chosen = [folder / name for folder, names in maps.items() for name in spread(names, READ)]
    return read_values(chosen, sum(map(len, maps.values())))


def _why_ade20k(folder: Path, folders: Mapping[str, MapFolders], own: Stock) -> str:
    """Return how a folder shows that it is ADE20K, or an empty string."""
    if 'ADE20K' not in str(own.arguments.get('type')):
        return ''
    if any((folder / name).is_file() for name in ADE20K):
        return f'{folder} holds the files of ADE20K'
    named = all(name.rpartition('/')[2].startswith('ADE_') for split in folders.values() for name in listing(split.images))
    return 'the images have the names of ADE20K' if named else ''


def _why_as_many(folder: Path, own: Stock, values: LabelValues) -> str:
    """Return that the label maps have as many classes as the config.

    Raises:
        ValueError: They have more or fewer.
    """
    last = len(own.classes) - 1 + bool(own.arguments.get(ZERO))
    highest = max(values.used, default=0)
    if highest == last:
        return f'the highest value in the label maps is {last}'
    example = values.example.get(highest, folder)
    raise ValueError(
        f'the images of {folder} have label maps with values up to {highest}{" and 255" if IGNORED in values.pixels else ""} (such as '
        f'{example}), and the last of the {len(own.classes)} classes of the config ({short(list(own.classes))}) has the value {last}: '
        f'{NAME_THEM.format(folder / FILE)}'
    )


def _count_from_one(count: int, values: LabelValues) -> bool:
    """Return True if the values of the classes are 1 to N, and False if they are 0 to N - 1.

    Raises:
        ValueError: The label maps do not tell.
    """
    if count in values.used:
        return True
    if 0 in values.used or not values.used:
        return False
    example = next(iter(values.example.values()))
    raise ValueError(
        f'{values.read} of {values.total} label maps were read, and none holds 0 or {count} (such as {example}), '
        f'so they do not tell whether the {count} classes count from 0 or from 1: '
        f'add --cfg-options train_dataloader.dataset.{ZERO}=False for 0, or {ZERO}=True for 1'
    )


def _check_range(names: tuple[str, ...], zero: bool, values: LabelValues, source: str) -> None:
    last = len(names) - 1 + zero
    beyond = [value for value in sorted(values.used) if value > last]
    if beyond:
        raise ValueError(
            f'{values.example[beyond[0]]} holds the value {beyond[0]}, and the {len(names)} classes of {source} ({short(list(names))}) '
            f'have the values {int(zero)} to {last}: {NAME_THEM.format(FILE)}, or write {IGNORED} into pixels to ignore'
        )


def _describe(zero: bool, names: tuple[str, ...], values: LabelValues, asked: bool) -> list[str]:
    ignored = [value for value in (*([0] if zero else []), IGNORED) if value in values.pixels]
    shares = ' and '.join(f'{value} ({values.share(value):.1%} of the pixels)' for value in ignored) or 'none'
    how = 'as asked' if asked else f'--cfg-options train_dataloader.dataset.{ZERO}={not zero} says otherwise'
    lines = [
        f'labels: values {int(zero)} to {len(names) - 1 + zero} are the classes, ignored: {shares}; {ZERO}={zero}, {how} '
        f'({values.read} of {values.total} label maps read)'
    ]
    if zero and values.share(0) > MUCH:
        lines.append(
            f'warning: {values.share(0):.1%} of the pixels have the value 0, which is neither trained nor evaluated; '
            f'if it is the background, name it first, as in --classes {",".join(("background", *names))}'
        )
    return lines


def _set_zero(node: Any, zero: bool) -> None:
    """Set ``reduce_zero_label`` of every step that has it. A step without it does as its dataset."""
    if isinstance(node, dict):
        if ZERO in node:
            node[ZERO] = zero
        for value in node.values():
            _set_zero(value, zero)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _set_zero(value, zero)
