"""Count the parameters of the models of the configs with any upsampler."""

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
    """Return the number of parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def configs_folder() -> Path:
    """Return the folder of the configs: beside the package in a checkout, inside it in an installation."""
    package = Path(__file__).parents[1]
    beside = package.parent / 'configs'
    return beside if beside.is_dir() else package / '.mim/configs'


@lru_cache
def read_config(config: str) -> Config:
    """Read a config by its path below the folder of configs.

    Raises:
        ImportError: The framework of the config is not installed.
    """
    cfg = Config.fromfile(str(configs_folder() / config))
    require(cfg.default_scope, config)
    return cfg


def count_model(config: str, upsampler: str) -> int:
    """Count the parameters of a model with an upsampler.

    Args:
        config: Path of the config below the folder of configs.
        upsampler: The value of ``--upsampler``.

    Raises:
        ImportError: The framework of the config is not installed.
        ValueError: There is no such upsampler, or no module of the model takes one.
    """
    cfg = copy.deepcopy(read_config(config))
    use_upsampler(cfg, upsampler)
    # Models that differ in the upsampler share all parts but one. That part can be built on the meta device, which is fast.
    with torch.device('meta'), DefaultScope.overwrite_default_scope(cfg.default_scope):
        part = MODELS.build(cfg.model[_part_with_upsamplers(cfg)])
    return _count_outside(config) + count_parameters(part)


@lru_cache
def _count_outside(config: str) -> int:
    """Return the number of parameters outside of the part with upsamplers."""
    cfg = copy.deepcopy(read_config(config))
    # The meta device is fast, but the backbones of mmseg's models read values while they are built.
    device = 'cpu' if cfg.default_scope == 'mmseg' else 'meta'
    with torch.device(device), DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    return count_parameters(model) - count_parameters(getattr(model, _part_with_upsamplers(cfg)))


def _part_with_upsamplers(cfg: Config) -> str:
    """Return the name of the part of a model that has its upsamplers: ``'neck'`` or ``'decode_head'``."""
    (part,) = {path.split('.')[1] for path in upsampler_places(cfg)}
    return part
