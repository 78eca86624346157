"""Who is looking on."""

import torch

# Before torch could tell the two apart, compiling was taken for exporting.
_is_exporting = getattr(torch.compiler, 'is_exporting', torch.compiler.is_compiling)


def exporting() -> bool:
    """Whether an exporter writes the operations down, for sizes that it does not know yet and with operators of its own alone."""
    return _is_exporting() or torch.jit.is_tracing()


def captured() -> bool:
    """Whether an exporter or a compiler writes the operations down."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
