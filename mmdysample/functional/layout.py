"""The memory format of feature maps."""

import torch
from torch import Tensor

from .capture import captured, transformed


def output_format(x: Tensor) -> torch.memory_format:
    """Return the memory format that the output for a map should have.

    This is ``channels_last`` if the map is ``channels_last`` and not contiguous. A map with a single channel can be both, and then the
    output is contiguous.
    """
    if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        return torch.channels_last
    return torch.contiguous_format


def not_a_view(y: Tensor) -> Tensor:
    """Return the same tensor, which autograd does not track as a view.

    Autograd forbids in-place changes of a view that a custom autograd function returns, as reentrant checkpointing does.
    """
    if captured() or transformed() or not y._is_view():
        return y
    return torch.ops.aten._unsafe_view(y, y.shape)
