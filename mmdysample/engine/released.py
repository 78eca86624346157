"""Rename and reshape the weights in the detector files that the authors of LDA-AQU and FreqFusion released.

Both are mmdet 2.x files. LDA-AQU's neck, ``FPN_LAU``, names its list of upsamplers as ours does, but a table in it has five dimensions.
FreqFusion's neck, ``FreqFusionCARAFEFPN``, names its list ``alignment``, and its modules save constants that ours compute. FRFU's neck,
``FPN_CARAFE_Upsample``, has our names and shapes. The facts are from the necks in the authors' repositories.
"""

import re
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mmdysample.functional.frequency import hamming_kernel
from mmdysample.upsamplers import DySample, FreqFusion
from mmdysample.upsamplers.freqfusion import HIGH_PASS, LOW_PASS
from mmdysample.upsamplers.lda_aqu import as_our_table

State = dict[str, Tensor]
LIST = re.compile(r'\.alignment(?=\.\d+\.(?:[hl]r_channel_compressor|content_encoder2?|hamming_\w+|dysampler)\b)')
CONSTANT = re.compile(r'\.upsample_modules\.\d+\.(?:hamming_(?:low|high)pass|dysampler\.init_pos)$')
TABLE = re.compile(r'\.upsample_modules\.\d+\.relative_position_bias_table$')


def from_rivals(state: State, model: nn.Module, source: str) -> tuple[State, list[str], list[str]]:
    """Give the weights of a file the names and shapes of our modules.

    Args:
        state: The weights of the file.
        model: The model of the config.
        source: The name of the file in error messages.

    Returns:
        The weights; the names of weights in the file that were replaced; and our names of the constants that were left out.

    Raises:
        ValueError: A constant in the file has another value than the modules of the model compute.
    """
    new = {name: LIST.sub('.upsample_modules', name) for name in state}
    renamed = [name for name in state if new[name] != name and not CONSTANT.search(new[name])]
    result = {new[name]: value for name, value in state.items()}
    dropped = [name for name in result if CONSTANT.search(name)]
    constants = {name: result.pop(name) for name in dropped}
    for path, module in model.named_modules():
        for name, value, hint in _constants(path, module) if isinstance(module, FreqFusion) else ():
            theirs = constants.get(name, value)
            if theirs.shape != value.shape or not torch.allclose(theirs.to(value), value, atol=1e-3):  # may be in half precision
                raise ValueError(f'{name} in {source} is not what the upsamplers of the config compute{hint}')
    result = {name: as_our_table(value) if TABLE.search(name) else value for name, value in result.items()}
    return result, renamed, dropped


def _constants(path: str, module: FreqFusion) -> Iterator[tuple[str, Tensor, str]]:
    """Yield names and values of the constants that the authors' module saves, and what to do about another value."""
    hint = f': try --upsampler "dict(type=\'FreqFusion\', hamming_window={not module.hamming_window})"'
    for name, size in (('hamming_lowpass', LOW_PASS), ('hamming_highpass', HIGH_PASS)):
        window = hamming_kernel(size, torch.zeros(())).reshape(1, 1, size, size)
        yield f'{path}.{name}', window if module.hamming_window else torch.ones(1), hint
    if module.dysampler is not None:
        groups = module.dysampler.groups
        yield f'{path}.dysampler.init_pos', DySample(groups, groups=groups).init_pos, ''
