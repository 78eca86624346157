"""The baselines that mmcv calls ``nearest``, ``bilinear``, ``deconv`` and ``pixel_shuffle``, without mmcv.

Names, arguments, state dicts and outputs are those of mmcv's ``build_upsample_layer``. The baselines are not in mmengine's registry,
because mmcv registers its own layers under the same names there.
"""

from typing import Any, Optional

import torch
from torch import Tensor, nn

from mmdysample.functional import pixel_shuffle

from .base import Upsampler, check_odd, check_positive
from .initialisation import xavier_uniform
from .registration import UPSAMPLERS


class PixelShuffle(Upsampler):
    """Upsample by a convolution and pixel shuffle (Shi et al., `CVPR 2016 <https://arxiv.org/abs/1609.05158>`_).

    The convolution predicts the ``s*s`` output pixels of each input pixel as channels.

    Args:
        in_channels: Channels ``C`` of the map.
        out_channels: Channels of the result. The default is ``in_channels``.
        scale_factor: Integer ratio ``s``.
        upsample_kernel: Odd kernel size of the convolution.
        init_cfg: mmengine's initialisation, which overrides Xavier's.
        device: The device of the parameters.
        dtype: The dtype of the parameters.

    Raises:
        ValueError: An argument is not a positive integer, or the kernel size is even.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: Optional[int] = None,
        scale_factor: int = 2,
        upsample_kernel: int = 3,
        init_cfg: Any = None,
        device: Any = None,
        dtype: Optional[torch.dtype] = None,
    ) -> None:
        super().__init__(in_channels, scale_factor, init_cfg)
        (self.out_channels,) = check_positive(out_channels=in_channels if out_channels is None else out_channels)
        (kernel,) = check_odd(upsample_kernel=upsample_kernel)
        wide = self.out_channels * self.scale_factor**2
        self.upsample_conv = nn.Conv2d(self.in_channels, wide, kernel, padding=kernel // 2, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise by Xavier's uniform distribution, as mmcv does."""
        xavier_uniform(self.upsample_conv)

    def upsample(self, x: Tensor) -> Tensor:
        """Upsample ``(B, C, H, W)`` to ``(B, out_channels, s*H, s*W)``."""
        return pixel_shuffle(self.upsample_conv(x), self.scale_factor).to(x.dtype)


#: The class of each baseline by name, in the order in which tables list them.
BASELINES: dict[str, type] = {'nearest': nn.Upsample, 'bilinear': nn.Upsample, 'deconv': nn.ConvTranspose2d, 'pixel_shuffle': PixelShuffle}
UPSAMPLERS.update(BASELINES)
