"""IndexNet as a module: `Indices Matter: Learning to Index for Deep Image Matting <https://arxiv.org/abs/1908.00672>`_ (ICCV 2019)."""

from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdysample.functional import pixel_shuffle

from .base import GuidedUpsampler
from .initialisation import constant, kaiming_normal, xavier_uniform
from .registration import register_upsampler


@register_upsampler()
class IndexNet(GuidedUpsampler):
    """Upsample ``(B, C, H, W)`` to ``(B, C, 2*H, 2*W)`` by nearest neighbours, multiplied with an index map.

    An index block predicts the index map, with values between 0 and 1, from the guide. The block is the paper's holistic one, with context
    and nonlinearity: it predicts a single index map for all channels.

    Args:
        in_channels: Channels ``C`` of the map.
        guide_channels: Channels ``C_g`` of the guide. The default is ``in_channels``.
        scale_factor: The upsampling ratio, which must be 2 because the index block is designed for it.
        init_cfg: mmengine's initialisation, which overrides Kaiming's for the first convolution and Xavier's for the last.
        device: The device of the parameters.
        dtype: The dtype of the parameters.

    Raises:
        ValueError: An argument is not a positive integer, or ``scale_factor`` is not 2.
    """

    scale_factors = (2,)

    def __init__(
        self,
        in_channels: int,
        guide_channels: Optional[int] = None,
        scale_factor: int = 2,
        init_cfg: Any = None,
        device: Any = None,
        dtype: Optional[torch.dtype] = None,
    ) -> None:
        super().__init__(in_channels, guide_channels, scale_factor, init_cfg)
        hidden = 2 * self.guide_channels
        factory: dict[str, Any] = {'device': device, 'dtype': dtype}
        self.index_block = nn.Sequential(
            nn.Conv2d(self.guide_channels, hidden, 4, stride=2, padding=1, bias=False, **factory),
            nn.BatchNorm2d(hidden, **factory),
            nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, self.scale_factor**2, 1, bias=False, **factory),
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the first convolution by Kaiming, the last by Xavier, and the batch norm to weight 1 and bias 0."""
        context, norm, _, project = self.index_block
        kaiming_normal(context)
        constant(norm, 1)
        xavier_uniform(project)

    def upsample(self, x: Tensor, guide: Tensor) -> Tensor:
        """Upsample a map with the index map of its guide; see :meth:`GuidedUpsampler.forward` for the shapes."""
        index = pixel_shuffle(self.index_block(guide), self.scale_factor).sigmoid().to(x.dtype)
        # A float, because torch 2.6 cannot compile an integer factor for dynamic sizes.
        return F.interpolate(x, scale_factor=float(self.scale_factor), mode='nearest') * index
