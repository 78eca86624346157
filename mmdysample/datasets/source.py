"""A dataset of a config, as the checks see it: where its files are, and what the config will use of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config


@dataclass(frozen=True)
class Source:
    """A dataset of a config that reads files.

    Args:
        config: The whole config.
        split: ``'train'``, ``'val'`` or ``'test'``.
        dataset: The config of the dataset.
    """

    config: Config
    split: str
    dataset: dict[str, Any]

    @property
    def kind(self) -> str:
        """The name of its class, without a scope such as ``mmdet.``."""
        return str(self.dataset.get('type')).split('.')[-1]

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
        return next((step for step in steps if str(step.get('type')).split('.')[-1] in kinds), {})

    @property
    def evaluators(self) -> list[dict[str, Any]]:
        """The evaluators of its split."""
        evaluators = self.config.get(f'{self.split}_evaluator') or []
        return [evaluators] if isinstance(evaluators, dict) else list(evaluators)


def sources(config: Config, splits: Iterable[str]) -> Iterator[Source]:
    """Yield the datasets of some splits, each once: most configs test on their validation data."""
    seen = []
    for split in splits:
        for dataset in leaves(config.get(f'{split}_dataloader') or {}):
            if dataset not in seen:
                seen.append(dataset)
                yield Source(config, split, dataset)


def leaves(dataloader: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the configs of the datasets of a data loader that read files, within any wrappers."""
    pending = [dataloader.get('dataset')]
    while pending:
        dataset = pending.pop()
        if dataset:
            inner = [dataset.get('dataset'), *(dataset.get('datasets') or [])]
            pending += inner
            if not any(inner):
                yield dataset
