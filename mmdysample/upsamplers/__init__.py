"""Upsamplers, one paper per file, and the one door to all of them."""

from .builder import build_upsampler, list_upsamplers
from .dysample import DySample, DySamplePlus, DySampleS, DySampleSPlus

__all__ = ['DySample', 'DySamplePlus', 'DySampleS', 'DySampleSPlus', 'build_upsampler', 'list_upsamplers']
