"""A2U as a module: `Learning Affinity-Aware Upsampling for Deep Image Matting <https://arxiv.org/abs/2011.14288>`_ (CVPR 2021)."""

from functools import reduce
from operator import add
from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdysample.functional import pixel_shuffle, reassemble
from mmdysample.functional.capture import exporting

from .base import GuidedUpsampler
from .initialisation import xavier_uniform
from .registration import register_upsampler

UP_KERNEL = 3
WINDOW = 6  # of the guide, at stride 2: 3 x 3 pixels of the map
NORM_GROUPS = 32


@register_upsampler()
class A2U(GuidedUpsampler):
    """Upsample ``(B, C, H, W)`` to ``(B, C, 2*H, 2*W)`` with kernels that a second-order form of the guide predicts.

    Two 6x6 filters, ``u`` and ``v``, are made of the pooled guide of each image and slid over every channel of it at stride 2; the inner
    product of the two results, over the channels, is the affinity of a pixel's window, from which a vector made of the guide's mean
    spreads out the kernels of the four output pixels.

    Args:
        in_channels: Channels ``C`` of the map.
        guide_channels: Channels ``C_g`` of the guide, a multiple of 32; by default those of the map.
        scale_factor: 2, the ratio that the filters are made for.
        init_cfg: mmengine's initialisation, in place of Xavier.

    Raises:
        ValueError: An argument is out of its range.
    """

    scale_factors = (2,)
    channel_divisor = NORM_GROUPS

    def __init__(self, in_channels: int, guide_channels: Optional[int] = None, scale_factor: int = 2, init_cfg: Any = None) -> None:
        super().__init__(in_channels, guide_channels, scale_factor, init_cfg)
        self.u = nn.Conv2d(self.guide_channels, 1, 1)
        self.v = nn.Conv2d(self.guide_channels, 1, 1)
        self.norm_u = nn.GroupNorm(NORM_GROUPS, self.guide_channels)
        self.norm_v = nn.GroupNorm(NORM_GROUPS, self.guide_channels)
        self.spread = nn.Conv2d(self.guide_channels, (UP_KERNEL * scale_factor) ** 2, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the convolutions by Xavier, the norms to the identity."""
        for conv in (self.u, self.v, self.spread):
            xavier_uniform(conv)
        for norm in (self.norm_u, self.norm_v):
            norm.reset_parameters()

    def upsample(self, x: Tensor, guide: Tensor) -> Tensor:
        """Upsample a map by its guide."""
        return reassemble(x, self.predict_kernels(guide), self.scale_factor)

    def predict_kernels(self, guide: Tensor) -> Tensor:
        """Predict the kernels.

        Args:
            guide: ``(B, C_g, 2*H, 2*W)``.

        Returns:
            ``(B, 9, 2*H, 2*W)``, float32 or wider; each kernel sums to one.
        """
        pooled = adaptive_mean(guide, WINDOW)
        u = self._project(guide, self.u(pooled), self.norm_u)
        v = self._project(guide, self.v(pooled), self.norm_v)
        affinity = (u * v).sum(1, keepdim=True) / self.guide_channels**0.5
        logits = pixel_shuffle(affinity * self.spread(guide.mean((2, 3), keepdim=True)), self.scale_factor)
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).sigmoid().softmax(1)

    def _project(self, guide: Tensor, window: Tensor, norm: nn.GroupNorm) -> Tensor:
        return F.leaky_relu(norm(slide(guide, window, self.scale_factor)))


def slide(x: Tensor, window: Tensor, stride: int) -> Tensor:
    """Slide each image's own window over every channel of it.

    Args:
        x: ``(B, C, H, W)``.
        window: ``(B, 1, k, k)``.
        stride: The step; the map is padded by zeros so that ``H / stride`` and ``W / stride`` steps are made.

    Returns:
        ``(B, C, H / stride, W / stride)``.
    """
    batch, channels, height, width = x.shape
    k = window.shape[-1]
    window = window.to(x.dtype)
    if exporting():  # a convolution has a fixed number of groups, and so would fix the batch
        padded = F.pad(x, ((k - stride) // 2,) * 4)
        steps = [slice(i, i + size - stride + 1, stride) for size in (height, width) for i in range(k)]
        return reduce(add, (padded[:, :, steps[i], steps[k + j]] * window[:, :, i, j, None, None] for i in range(k) for j in range(k)))
    if not batch:  # no group is no convolution
        return x[:, :, ::stride, ::stride]
    weight = window.expand(-1, channels, -1, -1).reshape(batch * channels, 1, k, k)
    out = F.conv2d(x.reshape(1, batch * channels, height, width), weight, stride=stride, padding=(k - stride) // 2, groups=batch * channels)
    return out.view(batch, channels, *out.shape[2:])


def adaptive_mean(x: Tensor, size: int) -> Tensor:
    """:func:`torch.nn.functional.adaptive_avg_pool2d` to ``(B, C, size, size)``, also in an export whose input may change its size."""
    if not exporting():
        return F.adaptive_avg_pool2d(x, size)
    rows, columns = (_bins(length, size, x) for length in x.shape[2:])
    return rows @ (x @ columns.transpose(0, 1))


def _bins(length: int, size: int, like: Tensor) -> Tensor:
    """The mean over each bin as a matrix ``(size, length)``; bins overlap where ``length`` is no multiple of ``size``."""
    bins = torch.arange(size, device=like.device)
    first, last = bins * length // size, ((bins + 1) * length + size - 1) // size
    place = torch.arange(length, device=like.device)
    inside = (place >= first.unsqueeze(1)) & (place < last.unsqueeze(1))
    return inside.to(like.dtype) / (last - first).to(like.dtype).unsqueeze(1)
