"""Learned upsampling in any PyTorch model: find its calls of ``F.interpolate`` and replace them by upsampling layers."""

from .replace import replace_upsample
from .report import Site, UpsampleReport
from .routing import restore_upsample

__all__ = ['Site', 'UpsampleReport', 'replace_upsample', 'restore_upsample']
