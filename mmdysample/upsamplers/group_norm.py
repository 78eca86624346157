"""Group normalisation for maps of any size.

``torch.nn`` refuses a group of one value, such as a 1x1 map with one channel per group in a batch of one, also in evaluation. Such a value
equals its mean, so its normalised value is zero, as it is in a batch of two.
"""

from typing import Optional

import torch
from torch import Tensor, nn


def group_norm(x: Tensor, groups: int, weight: Optional[Tensor] = None, bias: Optional[Tensor] = None, eps: float = 1e-5) -> Tensor:
    """Return ``F.group_norm`` of a map ``(B, C, H, W)`` of any size."""
    return torch.group_norm(x, groups, weight, bias, eps)


class GroupNorm(nn.GroupNorm):
    """``nn.GroupNorm`` for maps of any size."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(B, C, H, W)``."""
        return group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
