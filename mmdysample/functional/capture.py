"""Tell whether operations are executed, or recorded by an exporter or a compiler, and in which form they must be recorded."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch.autograd import forward_ad as fwAD

# torch < 2.7 cannot tell exporting from compiling, so compiling counts as exporting there.
_is_exporting = getattr(torch.compiler, 'is_exporting', torch.compiler.is_compiling)

_gathers_only: ContextVar[bool] = ContextVar('gathers_only', default=False)


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
    return not torch.compiler.is_dynamo_compiling() and _gathers_only.get()


@contextmanager
def without_grid_sample() -> Iterator[None]:
    """Let exporters record gathers in place of GridSample, for runtimes whose GridSample is wrong or missing.

    ::

        with mmdysample.export.without_grid_sample():
            torch.onnx.export(...)

    This holds for the current thread, and for exporters that run the model: ``torch.compile``, and ``torch.export`` with ``strict=True``,
    read the code instead and ignore it.
    """
    token = _gathers_only.set(True)
    try:
        yield
    finally:
        _gathers_only.reset(token)


def forward_mode() -> bool:
    """Return True within forward-mode differentiation, which ``grid_sample`` does not support."""
    return not torch.compiler.is_compiling() and fwAD._current_level >= 0


def transformed() -> bool:
    """Return True within ``torch.func`` transforms and forward-mode differentiation, which know PyTorch's operators only."""
    return forward_mode() or (not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active())
