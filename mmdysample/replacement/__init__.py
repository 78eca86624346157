"""Learned upsampling in any PyTorch model: find its calls of ``F.interpolate`` and replace them by upsampling layers."""

from .apply import apply_upsample
from .recipe import upsample_recipe
from .replace import replace_upsample
from .report import Site, UpsampleReport
from .routing import restore_upsample
from .saving import load_upsamplers, save_upsamplers

__all__ = [
    'Site',
    'UpsampleReport',
    'apply_upsample',
    'load_upsamplers',
    'replace_upsample',
    'restore_upsample',
    'save_upsamplers',
    'upsample_recipe',
]
