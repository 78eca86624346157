"""A dataset of a config, as the checks see it: where its files are, and what the config will use of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, DefaultScope, Registry

SPLITS = ('train', 'val', 'test')


@dataclass(frozen=True)
class Source:
    """A dataset of a config that reads files.

    Args:
        config: The whole config.
        split: ``'train'``, ``'val'`` or ``'test'``.
        dataset: The config of the dataset.
        places: Where the config holds this dataset, such as ``('val_dataloader.dataset', 'test_dataloader.dataset')``.
    """

    config: Config
    split: str
    dataset: dict[str, Any]
    places: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The name of its class, without a scope such as ``mmdet.``."""
        return kind_of(self.dataset)

    @property
    def root(self) -> Path:
        """The folder of the data."""
        return Path(self.dataset.get('data_root') or '')

    @property
    def ann_file(self) -> Optional[Path]:
        """The annotation file."""
        name = self.dataset.get('ann_file')
        return self.root / name if name else None

    @property
    def folders(self) -> dict[str, Path]:
        """The folders of the data by their names in ``data_prefix``: ``img``, ``img_path``, ``seg_map_path``, ``depth_map_path``, ..."""
        prefixes = self.dataset.get('data_prefix') or {}
        return {name: self.root / prefix for name, prefix in prefixes.items() if isinstance(prefix, str)}

    def step(self, *kinds: str) -> dict[str, Any]:
        """Return the first step of the pipeline that is of one of these classes, or an empty dict."""
        steps = self.dataset.get('pipeline') or []
        return next((step for step in steps if kind_of(step) in kinds), {})

    @property
    def turned(self) -> bool:
        """Whether images are loaded as their EXIF data turns them."""
        return turns_images(self.dataset.get('pipeline') or [])

    def place(self, *kinds: str) -> str:
        """Return where the dataset holds the step that :meth:`step` returns, such as ``'pipeline.1'``."""
        return next(f'pipeline.{i}' for i, step in enumerate(self.dataset['pipeline']) if step is self.step(*kinds))

    def options(self, values: dict[str, Any]) -> str:
        """Return the ``--cfg-options`` that set values of the dataset, such as ``{'img_suffix': '.png'}``."""
        return options({f'{place}.{name}': value for place in self.places for name, value in values.items()})

    def update(self, values: dict[str, Any]) -> None:
        """Set values of the dataset in the config, wherever the config holds it."""
        for place in self.places:
            node = self.config
            for key in place.split('.'):
                node = node[int(key)] if isinstance(node, (list, tuple)) else node[key]
            node.update(values)

    @property
    def evaluators(self) -> list[dict[str, Any]]:
        """The evaluators of its split."""
        evaluators = self.config.get(f'{self.split}_evaluator') or []
        return [evaluators] if isinstance(evaluators, dict) else list(evaluators)


def sources(config: Config, splits: Iterable[str]) -> Iterator[Source]:
    """Yield the datasets of some splits, each once: most configs test on their validation data."""
    found = [(place, d) for split in SPLITS for place, d in located(config.get(f'{split}_dataloader') or {}, f'{split}_dataloader')]
    seen = []
    for split in splits:
        for dataset in leaves(config.get(f'{split}_dataloader') or {}):
            if dataset not in seen:
                seen.append(dataset)
                yield Source(config, split, dataset, tuple(place for place, other in found if other == dataset))


def leaves(dataloader: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the configs of the datasets of a data loader that read files, within any wrappers."""
    for _, dataset in located(dataloader, ''):
        yield dataset


def located(node: dict[str, Any], place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the datasets of :func:`leaves` with their places, which begin with the place of the data loader."""
    inner = [(f'{place}.dataset', node.get('dataset'))]
    inner += [(f'{place}.datasets.{i}', dataset) for i, dataset in enumerate(node.get('datasets') or [])]
    for below, dataset in inner:
        if dataset:
            yield from located(dataset, below) if dataset.get('dataset') or dataset.get('datasets') else [(below, dataset)]


def last_head(config: Config) -> dict[str, Any]:
    """Return the config of the decode head that predicts, which is the last one of a cascade; an empty dict if there is none."""
    head = (config.get('model') or {}).get('decode_head') or {}
    return head[-1] if isinstance(head, (list, tuple)) else head


def kind_of(node: dict[str, Any]) -> str:
    """Return the name of the class that a config builds, without a scope such as ``mmdet.``. The type may be the class itself."""
    kind = node.get('type')
    return kind.__name__ if isinstance(kind, type) else str(kind).split('.')[-1]


def turns_images(pipeline: Iterable[dict[str, Any]]) -> bool:
    """Return True if a pipeline loads images as their EXIF data turns them."""
    color_type = next((step.get('color_type', 'color') for step in pipeline if kind_of(step) == 'LoadImageFromFile'), 'color')
    return 'ignore_orientation' not in color_type and color_type != 'unchanged'


def dataset_class(config: Config, dataset: dict[str, Any]) -> Optional[type]:
    """Return the class of a dataset, or None if it is not registered."""
    return _class_of(config, dataset, DATASETS)


def metric_class(config: Config, evaluator: dict[str, Any]) -> Optional[type]:
    """Return the class of an evaluator, or None if it is not registered."""
    return _class_of(config, evaluator, METRICS)


def _class_of(config: Config, node: dict[str, Any], registry: Registry) -> Optional[type]:
    kind = node.get('type')
    if not isinstance(kind, str):
        return kind
    with DefaultScope.overwrite_default_scope(config.get('default_scope')), registry.switch_scope_and_registry(None) as scoped:
        return scoped.get(kind)


def metainfo(config: Config, dataset: dict[str, Any]) -> dict[str, Any]:
    """Return what the config of a dataset, or else its class, says of its classes and their colours."""
    return {**getattr(dataset_class(config, dataset), 'METAINFO', {}), **(dataset.get('metainfo') or {})}


def dataset_classes(config: Config, dataset: dict[str, Any]) -> list[str]:
    """Return the classes of a dataset, from its config or else its class; an empty list if neither names them."""
    return as_names(metainfo(config, dataset).get('classes'))


def as_names(classes: Any) -> list[str]:
    """Return the names of classes as a list: those of a list, of a dict by their numbers, or one name alone, as mmdet takes it."""
    if isinstance(classes, str):
        return [classes]
    names = classes.values() if isinstance(classes, dict) else classes
    return [str(name) for name in names] if isinstance(names, Iterable) else []


def options(values: dict[str, Any]) -> str:
    """Return the ``--cfg-options`` that set values of a config."""
    return '--cfg-options ' + ' '.join(f'{key}={value}' for key, value in values.items())
