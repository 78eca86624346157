"""The upsamplers, one file for each paper, and the function that builds any of them by name."""

from .a2u import A2U
from .base import GuidedUpsampler, Upsampler
from .builder import build_upsampler, list_upsamplers
from .carafe import CARAFE
from .dlu import DLU
from .dupsample import DUpsample
from .dysample import DySample, DySamplePlus, DySampleS, DySampleSPlus
from .fade import FADE, FADELite
from .freqfusion import FreqFusion
from .frfu import FRFU
from .indexnet import IndexNet
from .interpolation import PixelShuffle
from .lda_aqu import LDAAQU
from .registration import register_upsampler
from .resfu import ReSFU
from .sapa import SAPAB, SAPAD, SAPAI

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
    'GuidedUpsampler',
    'IndexNet',
    'PixelShuffle',
    'ReSFU',
    'Upsampler',
    'build_upsampler',
    'list_upsamplers',
    'register_upsampler',
]
