"""Learned upsampling in any model: find where it interpolates, and put upsamplers there."""

from .replace import replace_upsample
from .report import Site, UpsampleReport
from .routing import restore_upsample

__all__ = ['Site', 'UpsampleReport', 'replace_upsample', 'restore_upsample']
