"""Check a config's data before anything is built, so that a fault is reported at once."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path

from mmengine.config import Config

from .coco.api import use_prepared_coco
from .coco.check import check_coco
from .coco.file import forget_files
from .findings import Finding, tell
from .image_files import forget
from .maps.depth_maps import check_depth_maps
from .maps.label_maps import check_label_maps
from .shapes_writer import ShapesSpec, ensure_shapes
from .source import Source, sources

# Each check looks only at the datasets of its kind.
CHECKS: tuple[Callable[[Source, bool], Iterator[Finding]], ...] = (check_coco, check_label_maps, check_depth_maps)


def prepare_data(config: Config, splits: Iterable[str]) -> None:
    """Write the Shapes scenes if the config asks for them, and look at the data for a few seconds.

    Args:
        config: The config.
        splits: The splits that will be used, of ``'train'``, ``'val'`` and ``'test'``.

    Raises:
        ValueError: The data is missing or wrong. The message names the remedy.
    """
    write_shapes(config)
    tell(check_data(config, splits))
    if config.get('default_scope') == 'mmdet':
        use_prepared_coco()


def check_data(config: Config, splits: Iterable[str], full: bool = False) -> list[Finding]:
    """Check the data of a config.

    Args:
        config: The config.
        splits: The splits to check, of ``'train'``, ``'val'`` and ``'test'``.
        full: Whether to read every file, or only what takes seconds.

    Returns:
        What is wrong or suspicious.
    """
    forget()
    forget_files()
    found: list[Finding] = []
    for source in sources(config, splits):
        try:
            _check_places(source)
            for check in CHECKS:
                for finding in check(source, full):
                    if finding not in found:
                        found.append(finding)
        except ValueError as error:  # there is nothing to check
            found.append(Finding('error', None, str(error), count=None))
        except OSError as error:  # a folder or file without permission, which mmengine lists or reads
            why = f'{error.filename} cannot be read: {error.strerror}' if error.filename else str(error)
            found.append(Finding('error', None, why, count=None))
        except OverflowError as error:  # JSON has no bound for numbers
            found.append(Finding('error', source.ann_file, f'a number is too large ({error})', 'look for one of many digits', count=None))
    return found


def write_shapes(config: Config) -> None:
    """Write the Shapes scenes if the config asks for them and they are not there yet."""
    if 'shapes' in config:
        ensure_shapes(Path(config.shapes.root), _spec(**{k: v for k, v in config.shapes.items() if k != 'root'}))


def _spec(**arguments: int) -> ShapesSpec:
    names = [field.name for field in fields(ShapesSpec)]
    unknown = arguments.keys() - set(names)
    if unknown:
        raise ValueError(f'shapes takes {", ".join(names)} and root, got {", ".join(sorted(unknown))}')
    return ShapesSpec(**arguments)


def _check_places(source: Source) -> None:
    """Raise ValueError if a folder or the annotation file of a dataset is missing."""
    remedy = _remedy(source.config)
    if not source.root.is_dir():
        raise ValueError(f'there is no data folder {source.root}{remedy}')
    if source.ann_file and not source.ann_file.is_file():
        raise ValueError(f'there is no annotation file {source.ann_file}{remedy}')
    for folder in source.folders.values():
        if not folder.is_dir():
            archive = folder.with_suffix('.zip')  # COCO's panoptic labels are an archive within an archive
            raise ValueError(f'there is no folder {folder}' + (f'. Unpack {archive}' if archive.is_file() else remedy))


def _remedy(config: Config) -> str:
    found = dict(re.findall(r'\{\{\s*\$(\w+_ROOT)\s*:\s*(.*?)\s*\}\}', config.text))
    # A config that inherits from one with other data names its variable, too.
    own = [name for name, default in found.items() if os.environ.get(name, default) == config.get('data_root')]
    variables = sorted(own or found)
    hint = f'. Set {" or ".join(variables)} to the folder of your data, or give it' if variables else '. Give the folder'
    hint += ' with --data-root'
    filename = Path(config.filename or '')
    twin = filename.parent / 'shapes' / f'{filename.stem}_shapes.py'
    if 'NUCLEI_ROOT' in variables:
        hint += ', or make it with tools/prepare_nuclei.py'
    if twin.is_file():
        hint += f', or try {os.path.relpath(twin)}, which generates its own data'
    return hint
