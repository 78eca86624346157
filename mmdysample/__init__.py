"""mmdysample makes the upsampler of an OpenMMLab model a config value."""

from importlib import import_module
from typing import Any

from .frameworks import require
from .version import __version__

require('mmengine', 'mmdysample')
require('mmcv', 'mmdysample')

from .registry import LOCATIONS  # noqa: E402
from .replacement import UpsampleReport, replace_upsample, restore_upsample  # noqa: E402
from .upsamplers import (  # noqa: E402
    A2U,
    CARAFE,
    FADE,
    SAPAB,
    SAPAD,
    SAPAI,
    DUpsample,
    DySample,
    DySamplePlus,
    DySampleS,
    DySampleSPlus,
    FADELite,
    IndexNet,
    build_upsampler,
    list_upsamplers,
)

__all__ = [
    'A2U',
    'CARAFE',
    'FADE',
    'SAPAB',
    'SAPAD',
    'SAPAI',
    'DUpsample',
    'DySample',
    'DySamplePlus',
    'DySampleS',
    'DySampleSPlus',
    'FADELite',
    'IndexNet',
    'UpsampleReport',
    '__version__',
    'build_upsampler',
    'list_upsamplers',
    'replace_upsample',
    'restore_upsample',
]


def __getattr__(name: str) -> Any:
    """Import a neck or head when it is first used: each needs a framework that may not be installed."""
    if name in LOCATIONS:
        return getattr(import_module(LOCATIONS[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
