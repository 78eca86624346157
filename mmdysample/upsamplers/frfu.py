"""FRFU as a module: the upsampler of `Relaxed Receptive Field for Adaptive Upsampling
<https://github.com/yisi-xj/Relaxed-Receptive-Field-for-Adaptive-Upsampling>`_ (2025), of which no paper was found.
"""

import math
from typing import Any, Optional

import torch
from torch import Tensor, nn

from mmdysample.functional import reassemble, sample_points

from .base import Upsampler, check_bool, check_odd, check_positive
from .initialisation import constant, normal
from .registration import register_upsampler

CENTRE = 0.9  # the weight of a kernel's centre at the start


@register_upsampler()
class FRFU(Upsampler):
    """Upsample ``(B, C, H, W)`` to ``(B, C, s*H, s*W)`` by sampling it at predicted points, and filter the result with predicted kernels.

    The points are those of bilinear interpolation, moved by predicted offsets. The kernels are predicted from the sampled map, and pixels
    outside it count as zeros.

    The names of the arguments and of the weights are those of the authors' class.

    Args:
        in_channels: Channels ``C`` of the map.
        scale_factor: Integer ratio ``s``.
        groups: Number of groups ``g`` of channels that share offsets.
        sample_k: Odd size ``k`` of the kernels.
        box_start: Whether to start as the authors' code does in segmentation: all weights of a kernel are about equal, so that the module
            averages ``k x k`` pixels of the interpolated map and darkens its border. By default, the centre of each kernel starts with a
            weight of 0.9, close to bilinear interpolation.
        init_cfg: mmengine's initialisation, which overrides the module's own: normal distributions with standard deviations of 0.001 for
            the offsets and 0.005 for the kernels, and zeros for the masks of both.
        device: The device of the parameters.
        dtype: The dtype of the parameters.

    Raises:
        ValueError: An argument is not a positive integer, ``sample_k`` is even, or ``in_channels`` is not divisible by ``groups``.
    """

    def __init__(
        self,
        in_channels: int,
        scale_factor: int = 2,
        groups: int = 4,
        sample_k: int = 3,
        box_start: bool = False,
        init_cfg: Any = None,
        device: Any = None,
        dtype: Optional[torch.dtype] = None,
    ) -> None:
        super().__init__(in_channels, scale_factor, init_cfg)
        (groups,), (sample_k,) = check_positive(groups=groups), check_odd(sample_k=sample_k)
        check_bool(box_start=box_start)
        if self.in_channels % groups:
            raise ValueError(f'in_channels must be divisible by groups, got {in_channels=}, {groups=}')
        self.groups = groups
        self.box_start = box_start
        points = 2 * groups * self.scale_factor**2
        layer: dict[str, Any] = {'kernel_size': 1, 'device': device, 'dtype': dtype}
        self.offset = nn.Conv2d(self.in_channels, points, **layer)
        self.offset_mask = nn.Conv2d(self.in_channels, points, **layer)
        self.sample_kernel = nn.Conv2d(self.in_channels, sample_k**2, **layer)
        self.kernel_mask = nn.Conv2d(self.in_channels, sample_k**2, **layer)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as the published implementation does, except for the centres of the kernels."""
        normal(self.offset, std=0.001)
        normal(self.sample_kernel, std=0.005)
        for mask in (self.offset_mask, self.kernel_mask):
            constant(mask, 0.0)
        taps = self.sample_kernel.out_channels
        if not self.box_start and taps > 1:
            # The mask halves the logit.
            bias: Any = self.sample_kernel.bias
            bias.data[taps // 2] = 2 * math.log(CENTRE / (1 - CENTRE) * (taps - 1))

    def upsample(self, x: Tensor) -> Tensor:
        """Upsample a map; see :meth:`Upsampler.forward` for the shapes."""
        s = self.scale_factor
        offset, mask = self._ordered(self.offset(x)), self._ordered(self.offset_mask(x))
        # The offset counts output pixels, of which s are an input pixel. sample_points doubles the scope factor for a mask.
        sampled = sample_points(x, offset, mask, self._position(offset), 0.5 / s, s, self.groups)
        logits = self.sample_kernel(sampled) * self.kernel_mask(sampled).sigmoid()
        kernels = logits.softmax(1, dtype=torch.promote_types(logits.dtype, torch.float32))
        return reassemble(sampled, kernels, scale_factor=1)

    def _ordered(self, points: Tensor) -> Tensor:
        """Reorder channels from (group, row, column, x | y) to (x | y, group, row, column)."""
        batch, channels, height, width = points.shape
        return points.reshape(batch, channels // 2, 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)

    def _position(self, like: Tensor) -> Tensor:
        """Return the points of bilinear interpolation, computed on the device, because a CUDA graph may not copy them there."""
        s, dtype = self.scale_factor, torch.promote_types(like.dtype, torch.float32)
        steps = (torch.arange(s, device=like.device, dtype=dtype) - (s - 1) / 2) / s
        points = torch.stack((steps.expand(s, s), steps.unsqueeze(1).expand(s, s)))
        return points.unsqueeze(1).expand(-1, self.groups, -1, -1).reshape(1, -1, 1, 1)

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, groups={self.groups}'
