"""Whether the operations are carried out, or recorded."""

import torch

# Before torch could tell the two apart, compiling was taken for exporting.
_is_exporting = getattr(torch.compiler, 'is_exporting', torch.compiler.is_compiling)


def exporting() -> bool:
    """Whether an exporter records the operations: sizes may change later, and only its own operators will do."""
    return _is_exporting() or torch.jit.is_tracing()


def captured() -> bool:
    """Whether an exporter or a compiler records the operations."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
