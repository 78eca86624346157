"""Measure time and memory of whole models with several upsamplers, at the image size at which their configs test."""

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
# Height and width of the image for the test pipeline of a config: the most common size in COCO, and the only one in NYU.
IMAGE = (480, 640)


@dataclass(frozen=True)
class MeasuredModel:
    """The measurement of a model with an upsampler.

    Args:
        model: Name of the config, without ``_dysample``.
        upsampler: Name of the upsampler.
        size: Height and width of the network's input in pixels; None if the model could not be built.
        parameters: Number of parameters of the whole model; None if it could not be built.
        time: Time for an image in milliseconds; None if it failed.
        memory: Peak memory in bytes, beyond the weights.
        error: The reason for a failure, otherwise empty.
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
    """Measure the inference of models on one image with random weights. Calls are interleaved among the upsamplers of a model.

    The time is that of ``predict``: the network and the post-processing. Reading, resizing and normalising the image are not timed.

    Args:
        configs: The configs by path.
        upsamplers: Values of ``--upsampler``, or ``'baseline'`` for the interpolation of the stock model.
        size: Height and width of the network's input; by default, the size at which the config tests an image of ``IMAGE``.
        environment: The environment; a dtype other than float32 is applied by autocast.
        rounds: Number of timed calls of each model.
        advance: A function that is called after each round, and with a line after each model.
        clock: The function that times a call; by default, that of the device.

    Yields:
        A row for each model and upsampler. A model that cannot be built or run has an error in its row.
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
            except Exception as error:  # any error means that this model does not run here
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
        ImportError: The framework of the config is not installed.
        ValueError: The config does not take the upsampler.
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
        # This sets the last layer of residual branches to zero; otherwise the activations of a deep network grow until they overflow.
        model.init_weights()
    return model.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the greetings of frameworks and mmengine's line about each initialised parameter."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(before)


def share_weights(model: nn.Module, other: nn.Module) -> None:
    """Copy the weights that two models share, because the number of proposals and of suppressed boxes depends on the weights."""
    own = model.state_dict()
    same = {key: value for key, value in other.state_dict().items() if key in own and own[key].shape == value.shape}
    model.load_state_dict(same, strict=False)


def _forget_pretrained(node: Any) -> None:
    """Remove the pretrained weights from a config in-place, so that nothing is downloaded."""
    if isinstance(node, dict):
        if isinstance(node.get('init_cfg'), dict) and node['init_cfg'].get('type') == 'Pretrained':
            node['init_cfg'] = None
        if isinstance(node.get('pretrained'), str):
            node['pretrained'] = None
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        _forget_pretrained(child)


def network_input(config: Config, model: nn.Module, size: Optional[tuple[int, int]]) -> dict[str, Any]:
    """Return the inputs of a model for one random image.

    Args:
        config: The config; its test pipeline prepares the image.
        model: The model; its preprocessor normalises and pads the image.
        size: Height and width of the image; by default, those that the pipeline makes of an image of size ``IMAGE``.

    Returns:
        ``inputs (1, 3, H, W)`` and ``data_samples``.
    """
    pipeline = config.test_dataloader.dataset.pipeline
    steps = [step for step in pipeline if not _kind(step).startswith('Load')]
    if size is not None:
        packing = [step for step in steps if _kind(step).startswith('Pack')]
        # The image already has this size; detectors need the scale factor that Resize records.
        steps = [dict(type='Resize', scale=(size[1], size[0]), keep_ratio=False), *packing]
    image = np.random.default_rng(0).integers(0, 256, (*(size or IMAGE), 3), dtype=np.uint8)
    packed = Compose([dict(type='LoadImageFromNDArray'), *steps])(dict(img=image, img_id=0))
    preprocess: Any = model.data_preprocessor
    return preprocess(pseudo_collate([packed]), training=False)


def _kind(step: dict[str, Any]) -> str:
    return step['type'].split('.')[-1]


def predict(model: nn.Module, data: dict[str, Any], environment: Environment) -> Call:
    """Return a call that predicts without gradients, under autocast if the dtype is not float32."""
    dtype = DTYPES[environment.dtype]

    def autocast() -> AbstractContextManager:
        return torch.autocast(environment.device, dtype, enabled=dtype is not torch.float32)

    def call() -> None:
        with torch.no_grad(), autocast():
            model(**data, mode='predict')

    return call
