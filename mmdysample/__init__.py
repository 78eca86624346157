"""Learned upsampling: a config value in OpenMMLab models, a module or one call in any other PyTorch model."""

from importlib import import_module
from typing import Any

from .frameworks import require
from .locations import LOCATIONS
from .replacement import (
    UpsampleReport,
    apply_upsample,
    load_upsamplers,
    replace_upsample,
    restore_upsample,
    save_upsamplers,
    upsample_recipe,
)
from .upsamplers import (
    A2U,
    CARAFE,
    DLU,
    FADE,
    FRFU,
    LDAAQU,
    SAPAB,
    SAPAD,
    SAPAI,
    DUpsample,
    DySample,
    DySamplePlus,
    DySampleS,
    DySampleSPlus,
    FADELite,
    FreqFusion,
    IndexNet,
    ReSFU,
    build_upsampler,
    list_upsamplers,
    register_upsampler,
)
from .version import __version__

__all__ = [
    'A2U',
    'CARAFE',
    'DLU',
    'FADE',
    'FRFU',
    'LDAAQU',
    'SAPAB',
    'SAPAD',
    'SAPAI',
    'DUpsample',
    'DySample',
    'DySamplePlus',
    'DySampleS',
    'DySampleSPlus',
    'FADELite',
    'FreqFusion',
    'IndexNet',
    'ReSFU',
    'UpsampleReport',
    '__version__',
    'apply_upsample',
    'build_upsampler',
    'list_upsamplers',
    'load_upsamplers',
    'register_upsampler',
    'replace_upsample',
    'restore_upsample',
    'save_upsamplers',
    'upsample_recipe',
]


def __getattr__(name: str) -> Any:
    """Import a neck, head or other class of a framework when it is first used, because the framework may not be installed."""
    if name in LOCATIONS:
        require('mmengine', f'mmdysample.{name}')
        return getattr(import_module(LOCATIONS[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
