"""Choose which of three equivalent implementations computes DySample. This package calls such an implementation a path.

``'plain'`` is a handful of PyTorch operations: the reference, which every exporter understands. ``'lean'`` does the same inside an operator
that saves only its inputs for the backward pass. ``'fused'`` uses Triton kernels.

Checks that hold for the whole process run once, when this module is imported. Checks that depend on a device and dtype are cached.
Each call therefore inspects only its own tensor.
"""

import os
import sysconfig
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Optional

import torch
from packaging.version import Version
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from . import self_check
from .capture import exporting, transformed

PATHS = ('plain', 'lean', 'fused')
VARIABLE = 'MMDYSAMPLE_PATH'
# The kernels index the output pixels of one channel with 32 bits, and the last block of pixels may extend beyond the last pixel. The
# margin of 2**12 is more than the largest block, 2048 pixels.
MAX_PIXELS = 2**31 - 2**12
TOO_LARGE = f'they support at most {MAX_PIXELS} output pixels in a map'

#: The path that the environment forces on every call without an argument ``path``, or None.
FORCED = os.environ.get(VARIABLE) or None
#: Whether Triton interprets its kernels instead of compiling them, so that they run on the CPU.
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'


def _find_obstacle() -> str:
    """Return the reason Triton cannot compile kernels on this machine, or an empty string."""
    if find_spec('triton') is None:
        return 'Triton is not installed'
    # Triton compiles C code that launches each kernel. Container images often lack a C compiler or Python's headers.
    if os.name != 'posix' or INTERPRETED:
        return ''
    if not (os.environ.get('CC') or which('gcc') or which('clang')):
        return 'Triton needs a C compiler, but neither gcc nor clang is installed, and the environment variable CC is not set'
    scheme = sysconfig.get_default_scheme()
    # Debian's default scheme is posix_local, whose include directory is empty.
    headers = sysconfig.get_path('include', 'posix_prefix' if scheme == 'posix_local' else scheme)
    if not Path(headers, 'Python.h').exists() and not os.environ.get('CPATH'):
        return "Triton needs Python's headers, but Python.h is not installed (on Debian, install python3-dev)"
    return ''


#: The reason Triton cannot compile kernels on this machine, or an empty string.
WHY_NO_TRITON = _find_obstacle()


def choose_path(x: Tensor, *, scale_factor: int = 2, training: bool = True, path: Optional[str] = None) -> str:
    """Return the path by which to sample a map.

    Args:
        x: The map ``(B, C, H, W)``.
        scale_factor: The upsampling ratio ``s``.
        training: Whether there will be a backward pass.
        path: The path to force. By default, the environment variable ``MMDYSAMPLE_PATH`` forces a path; without it, the choice depends on
            the map, its device and ``training``. During an export, the path is always ``'plain'``.

    Returns:
        ``'plain'``, ``'lean'`` or ``'fused'``.

    Raises:
        ValueError: The path is unknown, or ``'fused'`` is forced but not available for the map.
    """
    return _choose(x, scale_factor, training, path)[0]


def explain_path(x: Tensor, *, scale_factor: int = 2, training: bool = True, path: Optional[str] = None) -> tuple[str, str]:
    """Return the path by which to sample a map, and the reason for it.

    Args:
        x: As in :func:`choose_path`.
        scale_factor: As in :func:`choose_path`.
        training: As in :func:`choose_path`.
        path: As in :func:`choose_path`.

    Raises:
        ValueError: As in :func:`choose_path`.
    """
    chosen, reason = _choose(x, scale_factor, training, path)
    return chosen, reason.format(by=_forced_by(path), device=x.device.type, why_not=why_not_fused(x, scale_factor))


def _choose(x: Tensor, scale_factor: int, training: bool, path: Optional[str]) -> tuple[str, str]:
    """Return the path and a template of the reason; only :func:`explain_path` fills in the template, because that takes time."""
    forced = FORCED if path is None else path
    if forced is not None and forced not in PATHS:
        raise ValueError(f'{_forced_by(path)} must be one of {", ".join(PATHS)}, got {forced!r}')
    if exporting():
        return 'plain', "an exporter understands only PyTorch's own operations"
    if forced is None and transformed():
        return 'plain', "torch.func and forward-mode differentiation transform only PyTorch's own operations"
    why_not = why_not_fused(x, scale_factor)
    if forced == 'fused' and why_not:
        raise ValueError(f"{_forced_by(path)} is 'fused', which is not available here: {why_not}; leave it out, or use 'lean'")
    if forced is not None:
        return forced, '{by} forces this path'
    if x.device.type == 'cuda' and not why_not:
        return 'fused', 'the map is on a GPU, and Triton is installed'
    if x.device.type == 'cuda' and torch.are_deterministic_algorithms_enabled():
        return 'plain', 'deterministic algorithms are on, this path is deterministic, and the kernels are not available: {why_not}'
    if x.device.type not in ('cpu', 'cuda'):
        return 'plain', 'only this path is known to work on {device}'
    if torch.compiler.is_compiling():
        return 'lean', 'torch.compile would make grid_sample slower, and the kernels are not available: {why_not}'
    if not training:
        return 'plain', 'no backward pass needs saved tensors, and the kernels are not available: {why_not}'
    return 'lean', 'this path saves fewer tensors for the backward pass, and the kernels are not available: {why_not}'


def _forced_by(path: Optional[str]) -> str:
    return VARIABLE if path is None else 'the argument path'


def why_not_fused(x: Tensor, scale_factor: int) -> str:
    """Return the reason the kernels cannot sample a map, or an empty string."""
    # Call the function without its cache under Dynamo, which warns about a cached function.
    settled = why_no_kernels.__wrapped__ if torch.compiler.is_compiling() else why_no_kernels
    if why_not := settled(x.device, x.dtype):
        return why_not
    if x.is_cuda and not isinstance(x, FakeTensor) and (why_not := self_check.why_broken(x.device, x.dtype)):
        return why_not
    too_large = scale_factor**2 * x.shape[2] * x.shape[3] > MAX_PIXELS
    return TOO_LARGE if too_large else ''


@cache
def why_no_kernels(device: torch.device, dtype: torch.dtype) -> str:
    """Return the reason the kernels do not support a device and dtype, or an empty string."""
    if WHY_NO_TRITON:
        return WHY_NO_TRITON
    if device.type != 'cuda' and not INTERPRETED:
        return f'the map is on {device.type}, not on a GPU'
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f'they compute in float32, and the map is {str(dtype).removeprefix("torch.")}'
    if device.type != 'cuda' or torch.version.hip is not None:
        return ''
    capability = torch.cuda.get_device_capability(device)
    if capability < (7, 0):
        return 'Triton needs a GPU of compute capability 7.0 or newer'
    if dtype is torch.bfloat16 and capability < (8, 0) and Version(_triton_version()) < Version('3.3'):
        return 'bfloat16 needs a GPU of compute capability 8.0 or newer with Triton before 3.3'
    return ''


def _triton_version() -> str:
    # The module's own: its distribution has several names.
    return import_module('triton').__version__
