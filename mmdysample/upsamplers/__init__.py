"""The upsamplers, one file for each paper, and the function that builds any of them by name."""

from .a2u import A2U
from .base import GuidedUpsampler, Upsampler
from .builder import build_upsampler, list_upsamplers
from .carafe import CARAFE
from .dupsample import DUpsample
from .dysample import DySample, DySamplePlus, DySampleS, DySampleSPlus
from .fade import FADE, FADELite
from .indexnet import IndexNet
from .interpolation import PixelShuffle
from .registration import register_upsampler
from .sapa import SAPAB, SAPAD, SAPAI

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
    'GuidedUpsampler',
    'IndexNet',
    'PixelShuffle',
    'Upsampler',
    'build_upsampler',
    'list_upsamplers',
    'register_upsampler',
]
