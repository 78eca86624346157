"""The images of one of mmseg's datasets, each with its map: the labels or the depths of its pixels."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional

from mmengine.registry import DATASETS

from ..source import Source
from ..visible_files import pass_over_hidden_folders


class Pairs:
    """The images of a dataset and their maps, as mmseg lists them.

    Args:
        source: The config of the dataset.
        prefix: The name of the maps' folder in ``data_prefix``: ``'seg_map_path'`` or ``'depth_map_path'``.
        kind: ``'label map'`` or ``'depth map'``.
        option: The argument of the dataset that is the ending of the maps.

    Attributes:
        dataset: The dataset that mmseg builds from the config, without a pipeline.
        images: The folder of the images.
        maps: The folder of the maps.
        listed: The names of all images and their maps, relative to the folders.
        names: Those of them that the config selects with ``indices``.

    Raises:
        ValueError: The dataset cannot be built.
    """

    def __init__(self, source: Source, prefix: str, kind: str, option: str) -> None:
        pass_over_hidden_folders()
        self.source, self.prefix, self.kind, self.option = source, prefix, kind, option
        self.images, self.maps = source.folders['img_path'], source.folders[prefix]
        self._build()

    @property
    def mapped(self) -> bool:
        """Whether the pipeline reads the maps. One for images without known labels does not."""
        return bool(self.source.step('LoadAnnotations', 'LoadDepthAnnotation'))

    @property
    def by_list(self) -> bool:
        """Whether a text file names the images. Otherwise the dataset has all images of the folder."""
        return self.source.ann_file is not None

    @property
    def image_ending(self) -> str:
        """How the names of images end: ``.jpg``, ``_leftImg8bit.png``, ..."""
        return str(getattr(self.dataset, 'img_suffix', ''))

    @property
    def map_ending(self) -> str:
        """How the names of maps end."""
        return str(getattr(self.dataset, 'seg_map_suffix', ''))

    @property
    def inner(self) -> Optional[str]:
        """Where the maps lie within the folder of the images, such as ``labels/``: '' for the same folder, None for another one."""
        images, maps = os.path.abspath(self.images), os.path.abspath(self.maps)
        return '' if images == maps else f'{os.path.relpath(maps, images)}/' if maps.startswith(f'{images}/') else None

    def change(self, arguments: dict[str, Any]) -> None:
        """Set arguments of the dataset, in the config too."""
        self.source.update(arguments)
        self._build()

    def _build(self) -> None:
        config = {**self.source.dataset, 'pipeline': [], '_scope_': self.source.config.get('default_scope')}
        with _in_one_line(self.source):
            self.dataset = _unlisted(config)
            self.dataset.data_list = self.dataset.load_data_list()
            self.dataset.data_list = self.dataset.filter_data()
            self.listed = [self._pair(entry) for entry in self.dataset.data_list]
        indices = self.dataset._indices
        self.names = self.listed if indices is None else [self._pair(e) for e in self.dataset._get_unserialized_subset(indices)]

    def _pair(self, entry: dict[str, Any]) -> tuple[str, str]:
        prefixes = self.dataset.data_prefix
        return _below(prefixes['img_path'], entry['img_path']), _below(prefixes[self.prefix], entry[self.prefix])


def _unlisted(config: dict[str, Any]) -> Any:
    """Build a dataset that has not listed its images yet, if its class allows that."""
    try:
        return DATASETS.build({**config, 'lazy_init': True})
    except TypeError as error:
        if 'lazy_init' not in str(error):
            raise
        return DATASETS.build(config)  # a class of the user without this argument


def _below(folder: str, path: str) -> str:
    """Return a path relative to a folder, with ``/`` between its parts. One that does not lie below the folder becomes absolute."""
    folder = os.path.join(folder, '')
    return path[len(folder) :].replace(os.sep, '/') if path.startswith(folder) else os.path.abspath(path)


@contextmanager
def _in_one_line(source: Source) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, AssertionError, AttributeError, ValueError, StopIteration) as error:
        text = ' '.join(str(error).split())
        if 'is not a subset of classes' in text:
            remedy = source.options({'type': 'BaseSegDataset'})
            text = f'it takes only classes that it knows, and metainfo.classes holds others: set {remedy}'
        raise ValueError(f'the {source.kind} of {source.places[0]} cannot be built: {text[:400]}') from error
