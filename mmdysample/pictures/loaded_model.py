"""Build a model from a config for pictures, with the weights of a checkpoint or untrained."""

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint
from torch import nn

from mmdysample.engine.checkpoint import check_checkpoint, secure_loading
from mmdysample.engine.config import load_config
from mmdysample.engine.errors import one_line
from mmdysample.engine.fit import compare
from mmdysample.engine.model import naming_the_config
from mmdysample.engine.panoptic import stand_in_for_panopticapi
from mmdysample.engine.pretrained import check_pretrained, checked_loading
from mmdysample.frameworks import require

from .upsampler_calls import find_upsamplers, upsampler_name


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode, with its config and checkpoint."""

    config: Config
    model: nn.Module
    checkpoint: Optional[str] = None  # None for an untrained model
    lacking: frozenset[str] = frozenset()  # parameters that are not in the checkpoint and keep their initial values
    warning: Optional[str] = None  # a warning about the checkpoint, to print
    fault: Optional[str] = None  # why the predictions of this model would be wrong

    @property
    def title(self) -> str:
        """The names of config and upsamplers, and the checkpoint or ``untrained``."""
        names = dict.fromkeys(map(upsampler_name, find_upsamplers(self.model).values()))
        stem = Path(self.config.filename or 'model').stem
        return ' · '.join(filter(None, (stem, ', '.join(names), self.state)))

    @property
    def state(self) -> str:
        """The name of the checkpoint, or ``untrained``."""
        return Path(self.checkpoint).name if self.checkpoint else 'untrained'

    def is_trained(self, module: str) -> bool:
        """Return True if all parameters of a module, by its name, come from the checkpoint."""
        return self.checkpoint is not None and not any(name.startswith(f'{module}.') for name in self.lacking)

    def check_complete(self) -> None:
        """Raise ValueError if predictions of this model would be wrong: its weights are from a checkpoint, but not all of them."""
        if self.fault:
            raise ValueError(self.fault)

    def in_scope(self) -> Any:
        """Return a context in which type names are looked up in the framework of the config."""
        return in_scope(self.config)


def load_model(config: Union[str, Config], checkpoint: Optional[str] = None) -> LoadedModel:
    """Build a model and load its weights.

    Args:
        config: A config, or its file.
        checkpoint: File or address of the checkpoint. Without one, the model is initialised as for training, from a fixed seed and with
            the pretrained weights of the config.

    Returns:
        The model, on the GPU if there is one.

    Raises:
        ImportError: The config's framework is not installed.
        ValueError: The model cannot be built, or the checkpoint is missing, broken, unsafe or of another model.
    """
    if isinstance(config, str):
        secure_loading()
        config = load_config(config)
    if config.get('default_scope') in ('mmdet', 'mmseg'):
        require(config.default_scope, str(config.filename))
    stand_in_for_panopticapi(config)
    if checkpoint:
        check_checkpoint(checkpoint)
    else:
        check_pretrained(config)
    with naming_the_config(config), in_scope(config), torch.random.fork_rng(devices=[]), _quietly():
        torch.manual_seed(0)
        model = revert_sync_batchnorm(MODELS.build(copy.deepcopy(config.model)))
        if not checkpoint:
            _initialise(model, config)
    lacking: frozenset[str] = frozenset()
    warning = fault = None
    if checkpoint:
        fit = compare(checkpoint, model)
        warning, fault = fit.warning, fit.fault
        if fault and fit.is_small:
            raise ValueError(fault)
        content = load_checkpoint(model, checkpoint, map_location='cpu', logger='silent')
        held = {name.removeprefix('module.'): value.shape for name, value in content.get('state_dict', content).items()}
        lacking = frozenset(name for name, value in model.named_parameters() if held.get(name) != value.shape)
    return LoadedModel(config, model.to(get_device()).eval(), checkpoint, lacking, warning, fault)


@contextmanager
def in_scope(config: Config) -> Iterator[None]:
    """Look type names up in the framework of a config, inside this context only, because another model may need another framework."""
    with DefaultScope.overwrite_default_scope(config.get('default_scope')):
        yield


def _initialise(model: nn.Module, config: Config) -> None:
    try:
        with checked_loading(model):
            model.init_weights()  # type: ignore[operator]
    except OSError as error:  # there is no network, or no such address
        raise ValueError(
            f'cannot load the pretrained weights that {config.filename} names ({one_line(error)[:200]}): give a checkpoint, or '
            '--cfg-options model.backbone.init_cfg=None'
        ) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Hide the log of the initialisation, which has several lines per parameter."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
