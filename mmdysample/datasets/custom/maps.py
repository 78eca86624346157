"""What label maps and depth maps have in common: an image and a map for each name, in folders that mirror each other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from .asked import asked_for
from .places import Split, find
from .stock import stock
from .suffixes import Suffixes, find_suffixes

LOADERS = ('val_dataloader', 'test_dataloader')


class MapFolders(NamedTuple):
    """The folders of a split, and the suffixes of their names."""

    images: Path
    maps: Path
    suffixes: Suffixes


def use_maps(
    config: Config,
    folder: Path,
    splits: Mapping[str, Split],
    datasets: Mapping[str, list[dict[str, Any]]],
    options: Mapping[str, Any],
    prefix: str,
    val_patterns: tuple[str, ...],
) -> tuple[dict[str, MapFolders], list[str]]:
    """Change a config so that it reads images and maps of a folder.

    The folders are those of the config below the new folder, or else ``images/train*/`` and ``annotations/train*/`` and the like. The
    suffixes are those of the names in them. Validation and test images are read one at a time, because mmseg batches only equal sizes.

    Args:
        config: The config, changed in place.
        folder: The folder.
        splits: The paths that the user gave.
        datasets: The datasets of each split.
        options: What ``--cfg-options`` changed.
        prefix: The maps' folder in ``data_prefix``: ``'seg_map_path'`` or ``'depth_map_path'``.
        val_patterns: What the folders of the validation data are called: ``('val*/', 'test*/')``.

    Returns:
        The folders of each split, and lines for the user.

    Raises:
        ValueError: A folder is missing, there is more than one candidate, or the names of images and maps do not belong together.
    """
    argument = prefix.replace('_path', '_suffix')  # seg_map_suffix or depth_map_suffix
    patterns = {'train': ('train*/',), 'val': val_patterns}
    found, lines = {}, []
    for split, where in splits.items():
        if not datasets[split]:
            continue
        first = datasets[split][0]
        own = first['data_prefix']
        images = find(folder, where.img, [f'images/{name}' for name in patterns[split]], f'--{split}-img', own.get('img_path'))
        maps = find(folder, where.ann, [f'annotations/{name}' for name in patterns[split]], f'--{split}-ann', own.get(prefix))
        defaults = stock(config, first).arguments
        names = ('img_suffix', argument)
        suffixes = find_suffixes(
            images,
            maps,
            Suffixes(defaults.get('img_suffix', '.jpg'), defaults.get(argument, '.png')),
            [asked_for(options, name, split) for name in names],
            [f'{split}_dataloader.dataset.{name}' for name in names],
        )
        for dataset in datasets[split]:
            dataset['data_root'] = str(folder)
            # Assign, because ConfigDict.update would merge it with the config's own, and leave folders behind that are not here.
            dataset['data_prefix'] = {'img_path': f'{images}/', prefix: f'{maps}/'}
            dataset.update(dict(zip(names, suffixes)))
            if dataset.get('ann_file') and not (folder / dataset['ann_file']).is_file():
                dataset['ann_file'] = ''  # no list of names: all images of the folder
        found[split] = MapFolders(images, maps, suffixes)
        lines.append(f'{split}: images *{suffixes.image} in {images}, maps *{suffixes.map} in {maps}')
    for name in LOADERS:
        if 'val' in splits and (config.get(name) or {}).get('batch_size', 1) > 1:
            config[name]['batch_size'] = 1
    return found, lines
