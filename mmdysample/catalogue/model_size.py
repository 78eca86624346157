"""Parameters of the models of the configs, with any upsampler."""

import copy
from functools import lru_cache
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmdysample.engine.upsampler import upsampler_places, use_upsampler
from mmdysample.frameworks import require


def count_parameters(module: nn.Module) -> int:
    """The number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def configs_folder() -> Path:
    """The folder of the configs: beside the package in a checkout, within it where it is installed."""
    package = Path(__file__).parents[1]
    beside = package.parent / 'configs'
    return beside if beside.is_dir() else package / '.mim/configs'


@lru_cache
def read_config(config: str) -> Config:
    """A config by its path below the folder of configs.

    Raises:
        ImportError: Its framework is not installed.
    """
    cfg = Config.fromfile(str(configs_folder() / config))
    require(cfg.default_scope, config)
    return cfg


def count_model(config: str, upsampler: str) -> int:
    """Count the parameters of a model with an upsampler.

    Args:
        config: Its path below the folder of configs.
        upsampler: What ``--upsampler`` takes.

    Raises:
        ImportError: The framework of the config is not installed.
        ValueError: There is no such upsampler, or nothing in the model takes one.
    """
    cfg = copy.deepcopy(read_config(config))
    use_upsampler(cfg, upsampler)
    # Of one table, the models differ in one part alone, and that part reads no numbers while it is built.
    with torch.device('meta'), DefaultScope.overwrite_default_scope(cfg.default_scope):
        part = MODELS.build(cfg.model[_part_with_upsamplers(cfg)])
    return _count_outside(config) + count_parameters(part)


@lru_cache
def _count_outside(config: str) -> int:
    """Parameters of all parts of a model but the one that has upsamplers."""
    cfg = copy.deepcopy(read_config(config))
    # On the meta device there is nothing to initialise; the backbones of mmseg's models read numbers while they are built.
    device = 'cpu' if cfg.default_scope == 'mmseg' else 'meta'
    with torch.device(device), DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    return count_parameters(model) - count_parameters(getattr(model, _part_with_upsamplers(cfg)))


def _part_with_upsamplers(cfg: Config) -> str:
    """The name of a model's part that holds all places for upsamplers: ``'neck'`` or ``'decode_head'``."""
    (part,) = {path.split('.')[1] for path in upsampler_places(cfg)}
    return part
