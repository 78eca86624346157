"""Find the experiments on Shapes (twins) whose model takes an upsampler by name, with their metrics and stock interpolation.

A twin is the miniature of a config: the same model, smaller, on the built-in scenes of Shapes.
"""

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

# The interpolation of each framework's modules. A module of this package has that of the stock module which it extends, and that
# module may belong to another framework than the config.
BASELINES = {'mmdet': 'nearest', 'mmseg': 'bilinear'}


@dataclass(frozen=True)
class Metric:
    """A metric of an experiment: its task, its name in a table, its key in the results, the factor to the unit, and the digits to print."""

    task: str
    name: str
    key: str
    factor: float = 1.0
    digits: int = 1


# By the type of the evaluator and, where it matters, by its argument ``metric``.
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
        path: The config file.
        config: The config.
        metrics: The metrics of its evaluators.
        baseline: The interpolation of the stock model.
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
        """Return a copy of the config with an upsampler, and a name for the run.

        Raises:
            ValueError: The text names no upsampler, or one of the options sets an upsampler as well.
        """
        config = copy.deepcopy(self.config)
        return config, use_upsampler(config, text, options)


def find_twins(folder: Path, patterns: Sequence[str] = (), options: Optional[dict[str, Any]] = None) -> list[Twin]:
    """Find the experiments on Shapes whose model takes an upsampler by name.

    Args:
        folder: The folder of the configs.
        patterns: Names of configs or parts of names, with wildcards; by default, all.
        options: Options that override every config, as with ``--cfg-options``.

    Returns:
        The experiments in the order of their names.

    Raises:
        ImportError: The framework of a config is not installed.
        ValueError: No config matches a pattern, or a config cannot be read.
    """
    configs = find_configs(folder, f'*{SUFFIX}.py', patterns, options)
    return [Twin(path, config, tuple(judged_by(config)), baseline(config)) for path, config in configs.items()]


def find_configs(
    folder: Path, files: str = '*.py', patterns: Sequence[str] = (), options: Optional[dict[str, Any]] = None
) -> dict[Path, Config]:
    """Find the configs whose model takes an upsampler by name.

    Args:
        folder: The folder of the configs.
        files: The pattern of the config files in that folder.
        patterns: As in :func:`find_twins`.
        options: As in :func:`find_twins`.

    Returns:
        The configs by path, in the order of their names.

    Raises:
        ImportError: The framework of a config is not installed.
        ValueError: No config matches a pattern, or a config cannot be read.
    """
    paths = sorted(folder.glob(files))
    for pattern in patterns:
        if not any(_matches(path, pattern) for path in paths):
            known = ', '.join(path.stem for path in paths) or 'none'
            raise ValueError(f'no config in {folder} matches {pattern!r}; there are {known}')
    chosen = [path for path in paths if not patterns or any(_matches(path, pattern) for pattern in patterns)]
    configs = {path: config for path in chosen if upsampler_places(config := load_config(str(path), options))}
    if not configs:
        which = f' that matches {" or ".join(patterns)}' if patterns else ''
        raise ValueError(f'no config in {folder}{which} takes an upsampler by name')
    return configs


def _matches(path: Path, pattern: str) -> bool:
    return fnmatch(path.stem, f'*{Path(pattern).name.removesuffix(".py")}*')


def judged_by(config: Config) -> Iterator[Metric]:
    """Yield the metrics of a config's evaluators that stand for it in a table.

    Raises:
        ValueError: No evaluator of the config has a known metric.
    """
    evaluators = config.test_evaluator if isinstance(config.test_evaluator, (list, tuple)) else [config.test_evaluator]
    asked = {evaluator['type'].split('.')[-1]: evaluator.get('metric') or 'bbox' for evaluator in evaluators}
    found = [metric for (kind, choice), metric in METRICS.items() if kind in asked and (choice is None or choice in asked[kind])]
    if not found:
        types, known = ', '.join(asked), ', '.join(sorted({kind for kind, _ in METRICS}))
        raise ValueError(f'{config.filename} is evaluated by {types}, of which no metric is known; known are {known}')
    yield from found


def baseline(config: Config) -> str:
    """Return the interpolation of a config's stock model, at the first module that takes an upsampler."""
    place = next(iter(upsampler_places(config).values()))
    cls = MODELS.get(place['type'])
    extended = (base.__module__.split('.')[0] for base in getattr(cls, '__mro__', ()))  # Upsampled is a function, which has no __mro__
    framework = next((name for name in extended if name in BASELINES), config.get('default_scope'))
    return BASELINES.get(framework, 'bilinear')
