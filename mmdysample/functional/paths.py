"""Which of the equivalent ways computes DySample.

``'plain'`` is a handful of PyTorch operations: the reference, which every exporter understands. ``'lean'`` is the same in an operator that
keeps only its inputs for the backward pass. ``'fused'`` is Triton kernels.

Everything that holds for the whole process is settled when this module is imported, and what holds for a device and dtype when they are
first seen, so that a call looks at its tensor alone.
"""

import os
import sysconfig
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Optional

import torch
from torch import Tensor

from .capture import exporting

PATHS = ('plain', 'lean', 'fused')
VARIABLE = 'MMDYSAMPLE_PATH'
# The kernels count the pixels of one map of one channel in 32 bits, and their last block may reach beyond the last pixel.
MAX_PIXELS = 2**31 - 2**12

#: The path that the environment forces on all modules, or None.
FORCED = os.environ.get(VARIABLE) or None
#: Whether Triton interprets its kernels on the CPU.
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'


def _find_obstacle() -> str:
    """Return the reason Triton cannot compile kernels on this machine, or an empty string."""
    if find_spec('triton') is None:
        return 'Triton is not installed'
    # Triton compiles the code that launches a kernel, in C. Runtime images often lack a compiler or Python's headers.
    if os.name != 'posix' or INTERPRETED:
        return ''
    if not (os.environ.get('CC') or which('gcc') or which('clang')):
        return 'Triton needs a C compiler, and there is neither gcc nor clang nor CC in the environment'
    scheme = sysconfig.get_default_scheme()
    headers = sysconfig.get_path('include', 'posix_prefix' if scheme == 'posix_local' else scheme)  # Debian's local one is empty
    if not Path(headers, 'Python.h').exists() and not os.environ.get('CPATH'):
        return "Triton needs Python's headers, and there is no Python.h (Debian has it in python3-dev)"
    return ''


#: The reason Triton cannot compile kernels on this machine, or an empty string.
WHY_NO_TRITON = _find_obstacle()


def choose_path(x: Tensor, *, scale_factor: int = 2, training: bool = True, path: Optional[str] = None) -> str:
    """Return the path by which to sample a map.

    Args:
        x: The map ``(B, C, H, W)``.
        scale_factor: The upsampling ratio ``s``.
        training: Whether there will be a backward pass.
        path: Force this path. By default the environment variable ``MMDYSAMPLE_PATH`` forces one; without it, the map and its device
            decide. An exporter always gets ``'plain'``.

    Returns:
        ``'plain'``, ``'lean'`` or ``'fused'``.

    Raises:
        ValueError: The path is unknown, or ``'fused'`` is forced where it is not available.
    """
    return _choose(x, scale_factor, training, path)[0]


def explain_path(x: Tensor, *, scale_factor: int = 2, training: bool = True, path: Optional[str] = None) -> tuple[str, str]:
    """Return the path by which to sample a map, and the reason for it.

    Args:
        x: As in :func:`choose_path`.
        scale_factor: Likewise.
        training: Likewise.
        path: Likewise.

    Raises:
        ValueError: As in :func:`choose_path`.
    """
    chosen, reason = _choose(x, scale_factor, training, path)
    return chosen, reason.format(by=_forced_by(path), device=x.device.type, why_not=why_not_fused(x, scale_factor))


def _choose(x: Tensor, scale_factor: int, training: bool, path: Optional[str]) -> tuple[str, str]:
    """Return the path and a template of the reason, which is only filled in where somebody reads it."""
    forced = FORCED if path is None else path
    if forced is not None and forced not in PATHS:
        raise ValueError(f'{_forced_by(path)} must be one of {", ".join(PATHS)}, got {forced!r}')
    if exporting():
        return 'plain', 'an exporter understands only operations of PyTorch'
    why_not = why_not_fused(x, scale_factor)
    if forced == 'fused' and why_not:
        raise ValueError(f"{_forced_by(path)} is 'fused', which is not available here: {why_not}; leave it out, or take 'lean'")
    if forced is not None:
        return forced, '{by} says so'
    if not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():
        return 'plain', 'torch.func transforms only operations of PyTorch'
    if x.device.type == 'cuda' and not why_not:
        return 'fused', 'the map is on a GPU, and Triton is installed'
    if x.device.type == 'cuda' and torch.are_deterministic_algorithms_enabled():
        return 'plain', 'deterministic algorithms are on, gathers are deterministic, and the kernels are not available: {why_not}'
    if x.device.type not in ('cpu', 'cuda'):
        return 'plain', 'only this path is known to work on {device}'
    if torch.compiler.is_compiling():
        return 'lean', 'a compiler makes grid_sample slower than it is, and the kernels are not available: {why_not}'
    if not training:
        return 'plain', 'there is no backward pass to keep tensors for, and the kernels are not available: {why_not}'
    return 'lean', 'there is a backward pass to keep tensors for, and the kernels are not available: {why_not}'


def _forced_by(path: Optional[str]) -> str:
    return VARIABLE if path is None else 'the argument path'


def why_not_fused(x: Tensor, scale_factor: int) -> str:
    """Return the reason the kernels cannot sample a map, or an empty string."""
    # Dynamo warns of a cache that it cannot use.
    settled = why_no_kernels.__wrapped__ if torch.compiler.is_compiling() else why_no_kernels
    if why_not := settled(x.device, x.dtype):
        return why_not
    too_large = scale_factor**2 * x.shape[2] * x.shape[3] > MAX_PIXELS
    return 'they count up to 2147479552 output pixels in a map' if too_large else ''


@cache
def why_no_kernels(device: torch.device, dtype: torch.dtype) -> str:
    """Return the reason there are no kernels for a device and dtype, or an empty string."""
    if WHY_NO_TRITON:
        return WHY_NO_TRITON
    if device.type != 'cuda' and not INTERPRETED:
        return f'the map is on {device.type}, not on a GPU'
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f'they compute in float32, and the map is of {str(dtype).removeprefix("torch.")}'
    if device.type == 'cuda' and torch.version.hip is None and torch.cuda.get_device_capability(device) < (7, 0):
        return 'Triton needs a GPU of compute capability 7.0 or newer'
    return ''
