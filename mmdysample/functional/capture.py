"""Tell whether operations are executed, or recorded by an exporter or a compiler, and in which form they must be recorded."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch.autograd import forward_ad as fwAD

# torch < 2.7 cannot tell exporting from compiling, so compiling counts as exporting there.
_is_exporting = getattr(torch.compiler, 'is_exporting', torch.compiler.is_compiling)

#: How exporters record bilinear sampling.
GRID_SAMPLE, GATHERS, DEFORM_CONV = 'GridSample', 'gathers', 'DeformConv'

_recorded: ContextVar[str] = ContextVar('recorded', default=GRID_SAMPLE)
_sizes_are_fixed: ContextVar[bool] = ContextVar('sizes_are_fixed', default=False)


def exporting() -> bool:
    """Return True while an exporter records the operations.

    Input sizes may then change later, and the runtime supports only PyTorch's own operators.
    """
    return _is_exporting() or torch.jit.is_tracing()


def captured() -> bool:
    """Return True while an exporter or a compiler records the operations."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def gathers_only() -> bool:
    """Return True within :func:`without_grid_sample`. Dynamo cannot read the variable, so its graphs never are."""
    return not torch.compiler.is_dynamo_compiling() and _recorded.get() == GATHERS


def deform_conv_only() -> bool:
    """Return True while torch's tracing exporter records operations within :func:`with_deform_conv`."""
    return torch.jit.is_tracing() and _recorded.get() == DEFORM_CONV


def sizes_are_fixed() -> bool:
    """Return True within ``with_deform_conv(fixed=True)``."""
    return _sizes_are_fixed.get()


@contextmanager
def without_grid_sample() -> Iterator[None]:
    """Let exporters record gathers in place of GridSample, for runtimes whose GridSample is wrong or missing.

    ::

        with mmdysample.export.without_grid_sample():
            torch.onnx.export(...)

    This holds for the current thread, and for exporters that run the model: ``torch.compile``, and ``torch.export`` with ``strict=True``,
    read the code instead and ignore it.
    """
    with _set(_recorded, GATHERS):
        yield


@contextmanager
def with_deform_conv(fixed: bool = False) -> Iterator[None]:
    """Let ``torch.onnx.export(..., dynamo=False)`` record DeformConv in place of GridSample, for onnxruntime.

    ::

        with mmdysample.export.with_deform_conv():
            torch.onnx.export(..., opset_version=19, dynamo=False)

    onnxruntime computes it several times faster, because it computes a sampling point once and not for each channel. It needs opset 19 and
    onnxruntime 1.25 or newer. This holds for the current thread; other exporters ignore it.

    Args:
        fixed: Whether height and width of the maps are those of the export, which is faster still: then no map is padded.
    """
    with _set(_recorded, DEFORM_CONV), _set(_sizes_are_fixed, fixed):
        yield


@contextmanager
def _set(variable: ContextVar[Any], value: Any) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def forward_mode() -> bool:
    """Return True within forward-mode differentiation, which ``grid_sample`` does not support."""
    return not torch.compiler.is_compiling() and fwAD._current_level >= 0


def transformed() -> bool:
    """Return True within ``torch.func`` transforms and forward-mode differentiation, which know PyTorch's operators only."""
    return forward_mode() or (not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active())
