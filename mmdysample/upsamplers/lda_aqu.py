"""LDA-AQU as a module: `Adaptive Query-guided Upsampling via Local Deformable Attention <https://arxiv.org/abs/2411.19585>`_.

Du et al., ACM Multimedia 2024.
"""

from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdysample.functional.local_attention import local_attention

from .base import Upsampler, check_bool, check_odd, check_positive, check_positive_number
from .initialisation import xavier_uniform
from .registration import register_upsampler


@register_upsampler('LDA-AQU')
class LDAAQU(Upsampler):
    """Upsample ``(B, C, H, W)`` to ``(B, C, s*H, s*W)``: each output pixel attends to ``k x k`` predicted points around it.

    The queries come from the same map, interpolated, so there is no guide. Positions are those of ``align_corners=True``, and points
    outside the map read zeros but keep their weight, as in the released code, by which the published results were made: a constant map
    gets darker at its border.

    The names of the arguments and of the weights are those of the authors' class.

    Args:
        in_channels: Channels ``C`` of the map.
        scale_factor: Integer ratio ``s``.
        reduction_factor: Queries and keys have ``C / reduction_factor`` channels.
        nh: Number of heads.
        n_groups: Number of groups of channels that share points.
        k_u: Odd size ``k`` of the neighbourhood in which the points start, in output pixels.
        k_e: Odd kernel size of the convolution that predicts offsets.
        range_factor: The largest offset along each axis, in output pixels.
        rpb: Whether keys have a learned bias for each point (relative position bias).
        init_cfg: mmengine's initialisation, which overrides the authors': Xavier for the convolutions, zeros for the one that predicts
            offsets, and a truncated normal distribution with a standard deviation of 0.02 for the bias.
        device: The device of the parameters.
        dtype: The dtype of the parameters.

    Raises:
        ValueError: An argument has an invalid value, or ``in_channels`` is not divisible as heads, groups and ``reduction_factor`` require.
    """

    def __init__(
        self,
        in_channels: int,
        scale_factor: int = 2,
        reduction_factor: int = 4,
        nh: int = 1,
        n_groups: int = 2,
        k_u: int = 3,
        k_e: int = 3,
        range_factor: float = 11,
        rpb: bool = True,
        init_cfg: Any = None,
        device: Any = None,
        dtype: Optional[torch.dtype] = None,
    ) -> None:
        super().__init__(in_channels, scale_factor, init_cfg)
        reduction_factor, nh, n_groups = check_positive(reduction_factor=reduction_factor, nh=nh, n_groups=n_groups)
        k_u, k_e = check_odd(k_u=k_u, k_e=k_e)
        check_positive_number(range_factor=range_factor)
        check_bool(rpb=rpb)
        depth = self.in_channels // reduction_factor
        if self.in_channels % (reduction_factor * nh) or depth % n_groups:
            raise ValueError(
                'in_channels must be divisible by reduction_factor * nh, and in_channels / reduction_factor by n_groups, '
                f'got {in_channels=}, {reduction_factor=}, {nh=}, {n_groups=}'
            )
        self.nh, self.n_groups, self.k_u, self.range_factor = nh, n_groups, k_u, range_factor
        factory: dict[str, Any] = {'device': device, 'dtype': dtype}
        width = depth // n_groups
        self.layer_norm = ChannelNorm(self.in_channels, **factory)
        self.proj_q = nn.Conv2d(self.in_channels, depth, 1, bias=False, **factory)
        self.proj_k = nn.Conv2d(self.in_channels, depth, 1, bias=False, **factory)
        self.conv_offset = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False, **factory),
            ChannelNorm(width, **factory),
            nn.GELU(),
            nn.Conv2d(width, 2 * k_u**2, k_e, padding=k_e // 2, **factory),
        )
        # The authors' has five dimensions, which Module.to(memory_format=torch.channels_last) refuses.
        table = torch.empty(nh, k_u**2, depth // nh, **factory) if rpb else None
        self.relative_position_bias_table = None if table is None else nn.Parameter(table)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as the published implementation does in a detector."""
        for conv in (self.proj_q, self.proj_k, self.conv_offset[0]):
            xavier_uniform(conv)
        for parameter in self.conv_offset[3].parameters():
            nn.init.zeros_(parameter)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        if self.relative_position_bias_table is not None:
            nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def upsample(self, x: Tensor) -> Tensor:
        """Upsample a map; see :meth:`Upsampler.forward` for the shapes."""
        normed = self.layer_norm(x)
        size = [self.scale_factor * length for length in x.shape[2:]]  # torch 2.6 cannot compile scale_factor with dynamic sizes
        query = F.interpolate(self.proj_q(normed), size=size, mode='bilinear', align_corners=True)
        table = self.relative_position_bias_table
        bias = None if table is None else table.transpose(0, 1).flatten(1)
        offset = self.predict_offset(query)
        return local_attention(query, self.proj_k(normed), x, offset, bias, groups=self.n_groups, heads=self.nh)

    def predict_offset(self, query: Tensor) -> Tensor:
        """Return the points of each output pixel.

        Args:
            query: ``(B, D, s*H, s*W)``.

        Returns:
            ``(B*g, k*k*2, s*H, s*W)``, float32 or wider, the channels ordered as (point, y | x): the distances from the output pixel, in
            output pixels.
        """
        batch, depth, height, width = query.shape
        raw = self.conv_offset(query.reshape(batch * self.n_groups, depth // self.n_groups, height, width))
        offset = self.range_factor * raw.to(torch.promote_types(raw.dtype, torch.float32)).tanh()
        steps = torch.arange(self.k_u, device=offset.device, dtype=offset.dtype) - self.k_u // 2
        start = torch.stack((steps.repeat_interleave(self.k_u), steps.repeat(self.k_u)), dim=1)
        return offset + start.view(1, -1, 1, 1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        key = f'{prefix}relative_position_bias_table'
        table = state_dict.get(key)
        if isinstance(table, Tensor):
            state_dict[key] = as_our_table(table)
        super()._load_from_state_dict(state_dict, prefix, *args)


def as_our_table(table: Tensor) -> Tensor:
    """Return a table of biases as ``(n, k*k, D/n)``; that of the authors' class is ``(1, n, 1, k*k, D/n)``."""
    return table[0, :, 0] if table.dim() == 5 else table


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel of a map ``(B, C, H, W)``.

    Args:
        channels: Channels ``C``.
        factory: ``device`` and ``dtype``.
    """

    def __init__(self, channels: int, **factory: Any) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise a map."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
