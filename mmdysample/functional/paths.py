"""Which of the equivalent ways DySample is computed in."""

import os
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Optional, Union

import torch
from torch import Tensor

from .capture import exporting

PATHS = ('plain', 'lean', 'fused')
VARIABLE = 'MMDYSAMPLE_PATH'
# What the kernels count within one map of one channel; a block of them may reach beyond the last.
MAX_PIXELS = 2**31 - 2**12


def _why_no_triton() -> str:
    """Why kernels cannot be compiled here, if so."""
    if find_spec('triton') is None:
        return 'Triton is not installed'
    # It builds what launches a kernel, in C: without a compiler or Python's headers, as in images that are made to run things alone, the
    # first call would fail.
    if os.name != 'posix' or os.environ.get('TRITON_INTERPRET') == '1':
        return ''
    if not (os.environ.get('CC') or which('gcc') or which('clang')):
        return 'Triton needs a C compiler, and there is neither gcc nor clang nor CC in the environment'
    scheme = sysconfig.get_default_scheme()
    headers = sysconfig.get_path('include', 'posix_prefix' if scheme == 'posix_local' else scheme)  # Debian's local one is empty
    if not Path(headers, 'Python.h').exists() and not os.environ.get('CPATH'):
        return "Triton needs Python's headers, and there is no Python.h (Debian has it in python3-dev)"
    return ''


WHY_NO_TRITON = _why_no_triton()


def choose_path(
    x: Tensor, *, scale_factor: int = 2, training: bool = True, path: Optional[str] = None, explain: bool = False
) -> Union[str, tuple[str, str]]:
    """Choose how to sample a map.

    ``'plain'`` is a handful of PyTorch operations: the reference, which every exporter understands. ``'lean'`` is the same in an operator
    that keeps only its inputs for the backward pass. ``'fused'`` is Triton kernels.

    Args:
        x: The map ``(B, C, H, W)``.
        scale_factor: The upsampling ratio ``s``.
        training: Whether there will be a backward pass.
        path: One of them, whatever is usually chosen; None for the environment variable ``MMDYSAMPLE_PATH``, and without that a choice.
            An exporter always gets ``'plain'``.
        explain: Return the reason, too.

    Returns:
        The path; with ``explain``, the path and why.

    Raises:
        ValueError: There is no such path, or it is ``'fused'`` where that cannot be had.
    """
    chosen, why = _choose(x, scale_factor, training, path)
    return (chosen, why) if explain else chosen


def _choose(x: Tensor, scale_factor: int, training: bool, path: Optional[str]) -> tuple[str, str]:
    forced, by = (path, 'the argument path') if path is not None else (os.environ.get(VARIABLE) or None, VARIABLE)
    if forced is not None and forced not in PATHS:
        raise ValueError(f'{by} must be one of {", ".join(PATHS)}, got {forced!r}')
    if exporting():
        return 'plain', 'an exporter understands only operations of PyTorch'
    why_not = _why_not_fused(x, scale_factor)
    if forced == 'fused' and why_not:
        raise ValueError(f"{by} is 'fused', which cannot be had here: {why_not}; leave it out, or take 'lean'")
    if forced is not None:
        return forced, f'{by} says so'
    if not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():
        return 'plain', 'torch.func transforms only operations of PyTorch'
    if x.device.type == 'cuda' and not why_not:
        return 'fused', 'the map is on a GPU, and Triton is installed'
    if x.device.type == 'cuda' and torch.are_deterministic_algorithms_enabled():
        return 'plain', f'deterministic algorithms are asked for, which there are for gathers, and the kernels cannot be had: {why_not}'
    if x.device.type not in ('cpu', 'cuda'):
        return 'plain', f'nothing else is known to work on {x.device.type}'
    if torch.compiler.is_compiling():
        return 'lean', f'a compiler makes grid_sample slower than it is, and the kernels cannot be had: {why_not}'
    if not training:
        return 'plain', f'there is no backward pass to keep anything for, and the kernels cannot be had: {why_not}'
    return 'lean', f'there is a backward pass to keep things for, and the kernels cannot be had: {why_not}'


def _why_not_fused(x: Tensor, scale_factor: int) -> str:
    interpreted = os.environ.get('TRITON_INTERPRET') == '1'
    if WHY_NO_TRITON:
        return WHY_NO_TRITON
    if x.device.type != 'cuda' and not interpreted:
        return f'the map is on {x.device.type}, not on a GPU'
    if x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f'they compute in float32, and the map is of {str(x.dtype).removeprefix("torch.")}'
    if scale_factor**2 * x.shape[2] * x.shape[3] > MAX_PIXELS:
        return f'they count up to {MAX_PIXELS} output pixels in a map'
    if x.device.type == 'cuda' and torch.version.hip is None and torch.cuda.get_device_capability(x.device) < (7, 0):
        return 'Triton needs a GPU of compute capability 7.0 or newer'
    return ''
