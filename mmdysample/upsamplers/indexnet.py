"""IndexNet as a module: `Indices Matter: Learning to Index for Deep Image Matting <https://arxiv.org/abs/1908.00672>`_ (ICCV 2019)."""

from typing import Any, Optional

import torch.nn.functional as F
from torch import Tensor, nn

from mmdysample.functional import pixel_shuffle

from .base import GuidedUpsampler
from .initialisation import constant, kaiming_normal, xavier_uniform
from .registration import register_upsampler


@register_upsampler()
class IndexNet(GuidedUpsampler):
    """Upsample ``(B, C, H, W)`` to ``(B, C, 2*H, 2*W)``: nearest neighbours, times an index map in [0, 1] that the guide predicts.

    The index block is the paper's holistic one, with context and nonlinearity: one index map for all channels.

    Args:
        in_channels: Channels ``C`` of the map.
        guide_channels: Channels ``C_g`` of the guide; by default those of the map.
        scale_factor: 2, the ratio that the block is made for.
        init_cfg: mmengine's initialisation, in place of Kaiming for the first convolution and Xavier for the last.

    Raises:
        ValueError: An argument is out of its range.
    """

    scale_factors = (2,)

    def __init__(self, in_channels: int, guide_channels: Optional[int] = None, scale_factor: int = 2, init_cfg: Any = None) -> None:
        super().__init__(in_channels, guide_channels, scale_factor, init_cfg)
        hidden = 2 * self.guide_channels
        self.index_block = nn.Sequential(
            nn.Conv2d(self.guide_channels, hidden, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, scale_factor**2, 1, bias=False),
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the convolutions by Kaiming and Xavier, the batch norm to the identity."""
        context, norm, _, project = self.index_block
        kaiming_normal(context)
        constant(norm, 1)
        xavier_uniform(project)

    def upsample(self, x: Tensor, guide: Tensor) -> Tensor:
        """Upsample a map by its guide."""
        index = pixel_shuffle(self.index_block(guide), self.scale_factor).sigmoid().to(x.dtype)
        return F.interpolate(x, scale_factor=self.scale_factor, mode='nearest') * index
