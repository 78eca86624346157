"""Time and memory of whole models with some upsamplers side by side, at the size at which their configs test."""

import copy
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmdysample.catalogue.model_size import count_parameters
from mmdysample.catalogue.twins import BASELINE, baseline
from mmdysample.engine.panoptic import stand_in_for_panopticapi
from mmdysample.engine.upsampler import use_upsampler
from mmdysample.frameworks import require
from mmdysample.terminal.progress import Advance

from .environment import DTYPES, Environment
from .memory import peak_memory
from .timing import Call, Clock, Timing, in_a_word, interleaved, make_clock

UPSAMPLERS = (BASELINE, 'DySample', 'DySample+', 'DySample-S', 'DySample-S+')
# Height and width of the image that goes through a config's test pipeline: the commonest of COCO's, and that of all of NYU's.
IMAGE = (480, 640)


@dataclass(frozen=True)
class MeasuredModel:
    """What is known of a model with an upsampler.

    Args:
        model: Name of the config, without ``_dysample``.
        upsampler: Its name.
        size: Height and width of the network's input; None where it could not be made.
        parameters: Of the whole model; None where it could not be built.
        time: Of an image, in milliseconds; None where it failed.
        memory: Bytes held at the peak, beyond the weights.
        error: Why there is no time.
    """

    model: str
    upsampler: str
    size: Optional[tuple[int, int]] = None
    parameters: Optional[int] = None
    time: Optional[Timing] = None
    memory: Optional[int] = None
    error: str = ''


def measure_models(
    configs: dict[Path, Config],
    upsamplers: Sequence[str],
    size: Optional[tuple[int, int]],
    environment: Environment,
    rounds: int,
    advance: Advance,
    clock: Optional[Clock] = None,
) -> Iterator[MeasuredModel]:
    """Measure the inference of models on one image, with random weights; calls are interleaved among the upsamplers of a model.

    Timed is what ``predict`` does: the network, and what makes results of its outputs. Reading, resizing and normalising images is not.

    Args:
        configs: By their paths.
        upsamplers: What ``--upsampler`` takes, or ``'baseline'`` for that of the stock model.
        size: Height and width of the image for the network; by default the size at which the config tests an image of ``IMAGE``.
        environment: How to compute; in a dtype other than float32, by autocast.
        rounds: Timed calls of each.
        advance: Is told of each round, and with a line of each model.
        clock: What times a call; by default the device's.

    Yields:
        A row for each model and upsampler. What cannot be built or run has an error in its row.
    """
    clock = clock or make_clock(environment.device)
    for path, config in configs.items():
        name = path.stem.removesuffix('_dysample')
        rows = _measure(name, config, upsamplers, size, environment, rounds, advance, clock)
        took = ', '.join(f'{row.upsampler} {f"{row.time.median:.0f} ms" if row.time else "failed"}' for row in rows)
        advance(f'{name}: {took}', parts=0)
        yield from rows


def _measure(
    model: str,
    config: Config,
    upsamplers: Sequence[str],
    size: Optional[tuple[int, int]],
    environment: Environment,
    rounds: int,
    advance: Advance,
    clock: Clock,
) -> list[MeasuredModel]:
    calls: dict[str, Call] = {}
    first: Optional[nn.Module] = None
    known: dict[str, dict[str, Any]] = {}
    errors: dict[str, str] = {}
    with DefaultScope.overwrite_default_scope(config.get('default_scope')), environment.applied():
        for text in upsamplers:
            label = f'{baseline(config)} ({BASELINE})' if text == BASELINE else text
            known[label] = {}
            try:
                built = build_model(config, baseline(config) if text == BASELINE else text).to(environment.device)
                first = first or built
                share_weights(built, first)
                data = network_input(config, built, size)
            except Exception as error:  # whatever it is, it cannot be had here
                errors[label] = in_a_word(error)
                continue
            known[label] = {'size': tuple(data['inputs'].shape[-2:]), 'parameters': count_parameters(built)}
            calls[label] = predict(built, data, environment)
        watch = _telling(advance)
        times, failed = interleaved(calls, clock, rounds, watch=watch)
        errors |= failed
        if not times:
            advance(parts=rounds)
        measured = {
            label: {'time': Timing.of(values), 'memory': peak_memory(calls[label], environment.device)} for label, values in times.items()
        }
    return [
        MeasuredModel(model, label, **facts, **measured.get(label, {}), error=errors.get(label, ''))  # type: ignore[arg-type]
        for label, facts in known.items()
    ]


def _telling(advance: Advance) -> Callable[[Iterable[int]], Iterator[int]]:
    def watch(rounds: Iterable[int]) -> Iterator[int]:
        for i in rounds:
            yield i
            advance()

    return watch


def build_model(config: Config, upsampler: str) -> nn.Module:
    """Build the model of a config with an upsampler and random weights, in evaluation mode.

    Raises:
        ImportError: Its framework is not installed.
        ValueError: It does not take the upsampler.
    """
    config = copy.deepcopy(config)
    if config.get('default_scope') in ('mmdet', 'mmseg'):
        require(config.default_scope, str(config.filename))
    use_upsampler(config, upsampler)
    stand_in_for_panopticapi(config)
    _forget_pretrained(config.model)
    torch.manual_seed(0)
    with _quiet():
        model = revert_sync_batchnorm(MODELS.build(config.model))
        # Without its residual branches set to zero, what a deep network computes grows until it overflows.
        model.init_weights()
    return model.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without greetings of frameworks and mmengine's line about each parameter that is initialised."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(before)


def share_weights(model: nn.Module, other: nn.Module) -> None:
    """Give a model the weights of another wherever both have the same: what they propose, keep and suppress depends on them."""
    own = model.state_dict()
    same = {key: value for key, value in other.state_dict().items() if key in own and own[key].shape == value.shape}
    model.load_state_dict(same, strict=False)


def _forget_pretrained(node: Any) -> None:
    """Leave out what would be downloaded."""
    if isinstance(node, dict):
        if isinstance(node.get('init_cfg'), dict) and node['init_cfg'].get('type') == 'Pretrained':
            node['init_cfg'] = None
        if isinstance(node.get('pretrained'), str):
            node['pretrained'] = None
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        _forget_pretrained(child)


def network_input(config: Config, model: nn.Module, size: Optional[tuple[int, int]]) -> dict[str, Any]:
    """What the model is called with for one image.

    Args:
        config: Whose test pipeline the image goes through.
        model: Whose preprocessor normalises and pads.
        size: Height and width of the image, in place of what the pipeline makes of one of ``IMAGE``.

    Returns:
        ``inputs (1, 3, H, W)`` and ``data_samples``.
    """
    pipeline = config.test_dataloader.dataset.pipeline
    steps = [step for step in pipeline if not _kind(step).startswith('Load')]
    if size is not None:
        packing = [step for step in steps if _kind(step).startswith('Pack')]
        # To the size that it has: detectors look for what a Resize notes.
        steps = [dict(type='Resize', scale=(size[1], size[0]), keep_ratio=False), *packing]
    image = np.random.default_rng(0).integers(0, 256, (*(size or IMAGE), 3), dtype=np.uint8)
    packed = Compose([dict(type='LoadImageFromNDArray'), *steps])(dict(img=image, img_id=0))
    preprocess: Any = model.data_preprocessor
    return preprocess(pseudo_collate([packed]), training=False)


def _kind(step: dict[str, Any]) -> str:
    return step['type'].split('.')[-1]


def predict(model: nn.Module, data: dict[str, Any], environment: Environment) -> Call:
    """A call that predicts."""
    dtype = DTYPES[environment.dtype]

    def autocast() -> AbstractContextManager:
        return torch.autocast(environment.device, dtype, enabled=dtype is not torch.float32)

    def call() -> None:
        with torch.no_grad(), autocast():
            model(**data, mode='predict')

    return call
