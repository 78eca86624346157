"""The memory format of feature maps."""

import torch
from torch import Tensor


def output_format(x: Tensor) -> torch.memory_format:
    """Return the memory format that the output for a map should have.

    This is ``channels_last`` if the map is ``channels_last`` and not contiguous. A map with a single channel can be both, and then the
    output is contiguous.
    """
    if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        return torch.channels_last
    return torch.contiguous_format
