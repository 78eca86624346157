"""How the numbers of a map lie in memory."""

import torch
from torch import Tensor


def output_format(x: Tensor) -> torch.memory_format:
    """The memory format that a map asks for: ``channels_last`` if it is in that and in no other."""
    if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        return torch.channels_last
    return torch.contiguous_format
