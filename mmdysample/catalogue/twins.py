"""The experiments on Shapes: which take an upsampler by name, what they are judged by, and how their stock model upsamples."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config

from mmdysample.engine.config import load_config
from mmdysample.engine.upsampler import upsampler_places, use_upsampler
from mmdysample.registry import MODELS

SUFFIX = '_shapes'
BASELINE = 'baseline'

# How the modules of a framework upsample. One of ours does as the module that it extends, which need not be of its config's framework.
BASELINES = {'mmdet': 'nearest', 'mmseg': 'bilinear'}


@dataclass(frozen=True)
class Metric:
    """What stands for an experiment in a table."""

    task: str
    name: str
    key: str
    factor: float = 1.0
    digits: int = 1


# By the type of an evaluator, and by its argument ``metric`` where that decides.
METRICS = {
    ('CocoMetric', 'bbox'): Metric('object detection', 'box AP', 'bbox_mAP', factor=100),
    ('CocoMetric', 'segm'): Metric('instance segmentation', 'mask AP', 'segm_mAP', factor=100),
    ('CocoPanopticMetric', None): Metric('panoptic segmentation', 'PQ', 'PQ'),
    ('IoUMetric', None): Metric('semantic segmentation', 'mIoU', 'mIoU', digits=2),
    ('DepthMetric', None): Metric('monocular depth', 'AbsRel (less is better)', 'abs_rel', digits=3),
}


@dataclass(frozen=True, eq=False)
class Twin:
    """An experiment on Shapes.

    Args:
        path: Its config file.
        config: What was read from it.
        metrics: What it is judged by.
        baseline: The upsampler of the stock model.
    """

    path: Path
    config: Config
    metrics: tuple[Metric, ...]
    baseline: str

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.path.stem.removesuffix(SUFFIX).removesuffix('_dysample')

    def with_upsampler(self, text: str, options: Optional[dict[str, Any]] = None) -> tuple[Config, str]:
        """The config with an upsampler, and a name for it.

        Raises:
            ValueError: It is no upsampler, or an option is about the upsampler, too.
        """
        config = copy.deepcopy(self.config)
        return config, use_upsampler(config, text, options)


def find_twins(folder: Path, patterns: Sequence[str] = (), options: Optional[dict[str, Any]] = None) -> list[Twin]:
    """Find the experiments whose model takes an upsampler by name.

    Args:
        folder: Where the configs are.
        patterns: Which to take: names of configs or parts of them, with wildcards; all of them by default.
        options: What to change in every config.

    Returns:
        The experiments in the order of their names.

    Raises:
        ImportError: The framework of one is not installed.
        ValueError: There is none that a pattern is about, or a config cannot be read.
    """
    configs = find_configs(folder, f'*{SUFFIX}.py', patterns, options)
    return [Twin(path, config, tuple(judged_by(config)), baseline(config)) for path, config in configs.items()]


def find_configs(
    folder: Path, files: str = '*.py', patterns: Sequence[str] = (), options: Optional[dict[str, Any]] = None
) -> dict[Path, Config]:
    """Find the configs whose model takes an upsampler by name.

    Args:
        folder: Where they are.
        files: Which files of the folder are configs.
        patterns: As in :func:`find_twins`.
        options: What to change in every config.

    Returns:
        The configs by their paths, in the order of their names.

    Raises:
        ImportError: The framework of one is not installed.
        ValueError: There is none that a pattern is about, or a config cannot be read.
    """
    paths = sorted(folder.glob(files))
    for pattern in patterns:
        if not any(_matches(path, pattern) for path in paths):
            known = ', '.join(path.stem for path in paths) or 'none'
            raise ValueError(f'no config in {folder} is about {pattern!r}; there are {known}')
    chosen = [path for path in paths if not patterns or any(_matches(path, pattern) for pattern in patterns)]
    configs = {path: config for path in chosen if upsampler_places(config := load_config(str(path), options))}
    if not configs:
        raise ValueError(f'no config in {folder}' + (f' about {" or ".join(patterns)}' if patterns else '') + ' takes an upsampler by name')
    return configs


def _matches(path: Path, pattern: str) -> bool:
    return fnmatch(path.stem, f'*{Path(pattern).name.removesuffix(".py")}*')


def judged_by(config: Config) -> Iterator[Metric]:
    """What stands for a config in a table, by its evaluators.

    Raises:
        ValueError: No evaluator is known here.
    """
    evaluators = config.test_evaluator if isinstance(config.test_evaluator, (list, tuple)) else [config.test_evaluator]
    asked = {evaluator['type'].split('.')[-1]: evaluator.get('metric') or 'bbox' for evaluator in evaluators}
    found = [metric for (kind, choice), metric in METRICS.items() if kind in asked and (choice is None or choice in asked[kind])]
    if not found:
        types, known = ', '.join(asked), ', '.join(sorted({kind for kind, _ in METRICS}))
        raise ValueError(f'{config.filename} is judged by {types}, of which no metric is known; known are {known}')
    yield from found


def baseline(config: Config) -> str:
    """The upsampler of a config's stock model: of the first place that takes one."""
    place = next(iter(upsampler_places(config).values()))
    cls = MODELS.get(place['type'])
    extended = (base.__module__.split('.')[0] for base in getattr(cls, '__mro__', ()))  # Upsampled is a function
    framework = next((name for name in extended if name in BASELINES), config.get('default_scope'))
    return BASELINES.get(framework, 'bilinear')
