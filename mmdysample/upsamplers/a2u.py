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
from .group_norm import GroupNorm
from .initialisation import xavier_uniform
from .registration import register_upsampler

UP_KERNEL = 3  # size of the neighbourhood that is reassembled, in pixels of the map
WINDOW = 6  # size of the filters in pixels of the guide, which cover 3x3 pixels of the map
NORM_GROUPS = 32


@register_upsampler()
class A2U(GuidedUpsampler):
    """Upsample ``(B, C, H, W)`` to ``(B, C, 2*H, 2*W)`` with kernels predicted from second-order features of the guide.

    The module predicts two 6x6 filters, ``u`` and ``v``, from the pooled guide of each image and convolves every channel of the guide with
    both at stride 2. The inner product of the two results over the channels is the affinity of each input pixel. A 1x1 convolution of the
    guide's mean gives one vector for each image. The product of affinity and vector gives the kernels of the four output pixels.

    Args:
        in_channels: Channels ``C`` of the map, a multiple of 32.
        guide_channels: Channels ``C_g`` of the guide, a multiple of 32. The default is ``in_channels``.
        scale_factor: The upsampling ratio, which must be 2 because the filters are designed for it.
        init_cfg: mmengine's initialisation, which overrides Xavier's.
        device: The device of the parameters.
        dtype: The dtype of the parameters.

    Raises:
        ValueError: An argument is not a positive integer, ``scale_factor`` is not 2, or the channels are not a multiple of 32.
    """

    scale_factors = (2,)
    channel_divisor = NORM_GROUPS

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
        factory: dict[str, Any] = {'device': device, 'dtype': dtype}
        self.u = nn.Conv2d(self.guide_channels, 1, 1, **factory)
        self.v = nn.Conv2d(self.guide_channels, 1, 1, **factory)
        self.norm_u = GroupNorm(NORM_GROUPS, self.guide_channels, **factory)
        self.norm_v = GroupNorm(NORM_GROUPS, self.guide_channels, **factory)
        self.spread = nn.Conv2d(self.guide_channels, (UP_KERNEL * self.scale_factor) ** 2, 1, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the convolutions by Xavier's uniform distribution and the norms to weight 1 and bias 0."""
        for conv in (self.u, self.v, self.spread):
            xavier_uniform(conv)
        for norm in (self.norm_u, self.norm_v):
            norm.reset_parameters()

    def upsample(self, x: Tensor, guide: Tensor) -> Tensor:
        """Upsample a map with kernels predicted from its guide; see :meth:`GuidedUpsampler.forward` for the shapes."""
        return reassemble(x, self.predict_kernels(guide), self.scale_factor)

    def predict_kernels(self, guide: Tensor) -> Tensor:
        """Return the reassembly kernels that the module predicts from a guide.

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
    """Convolve every channel of each image with the filter of that image.

    Args:
        x: ``(B, C, H, W)``.
        window: The filters, ``(B, 1, k, k)``, cast to the dtype of ``x``.
        stride: The stride. The map is padded with ``(k - stride) // 2`` zeros on each side.

    Returns:
        ``(B, C, H / stride, W / stride)``.
    """
    batch, channels, height, width = x.shape
    k = window.shape[-1]
    window = window.to(x.dtype)
    if exporting():  # a convolution has a fixed number of groups, so it would fix the batch size
        padded = F.pad(x, ((k - stride) // 2,) * 4)
        steps = [slice(i, i + size - stride + 1, stride) for size in (height, width) for i in range(k)]
        return reduce(add, (padded[:, :, steps[i], steps[k + j]] * window[:, :, i, j, None, None] for i in range(k) for j in range(k)))
    if not batch:  # a convolution needs at least one group
        return x[:, :, ::stride, ::stride]
    weight = window.expand(-1, channels, -1, -1).reshape(batch * channels, 1, k, k)
    out = F.conv2d(x.reshape(1, batch * channels, height, width), weight, stride=stride, padding=(k - stride) // 2, groups=batch * channels)
    return out.view(batch, channels, *out.shape[2:])


def adaptive_mean(x: Tensor, size: int) -> Tensor:
    """Return the adaptive average pooling of a map, ``(B, C, size, size)``.

    In an export, this is two matrix products, because the exported operator would not allow dynamic input sizes.
    """
    if not exporting():
        return F.adaptive_avg_pool2d(x, size)
    rows, columns = (_bins(length, size, x) for length in x.shape[2:])
    return rows @ (x @ columns.transpose(0, 1))


def _bins(length: int, size: int, like: Tensor) -> Tensor:
    """Return a matrix ``(size, length)`` that takes the mean over each bin; bins overlap if ``length`` is not a multiple of ``size``."""
    bins = torch.arange(size, device=like.device)
    first, last = bins * length // size, ((bins + 1) * length + size - 1) // size
    place = torch.arange(length, device=like.device)
    inside = (place >= first.unsqueeze(1)) & (place < last.unsqueeze(1))
    return inside.to(like.dtype) / (last - first).to(like.dtype).unsqueeze(1)
