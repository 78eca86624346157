"""ReSFU as a module: `A Refreshed Similarity-based Upsampler for Direct High-Ratio Feature Upsampling <https://arxiv.org/abs/2407.02283>`_.

Zhou et al., 2024.
"""

from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdysample.functional.lean import lean_module
from mmdysample.functional.similarity_scores import attend_to_taps, gaussian_blur, guided_filter, paired_difference

from .base import GuidedUpsampler, check_bool, check_positive, check_positive_number
from .group_norm import GroupNorm
from .initialisation import constant, kaiming_normal, normal
from .registration import register_upsampler

NORM_GROUPS = 32
FEATURES = 128


@register_upsampler()
class ReSFU(GuidedUpsampler):
    """Upsample ``(B, C, H, W)`` to ``(B, C, s*H, s*W)``: each output pixel attends to the 3x3 input pixels around its own position.

    The scores compare a key, from the map, with a query, from the guide: once the key with the query as a guided filter fits it to the key
    (semantics), and once the blurred query with the query itself (details). The method is made for one step of x4 or x8, and its number of
    parameters does not depend on the ratio.

    The names of the arguments and of the weights are those of the authors' class, whose argument ``gn_dim`` is the number of groups of the
    norms. Unlike their builder, which leaves it at 2, the ratio is always that of the output.

    Args:
        in_channels: Channels ``C`` of the map: a multiple of 32, or less than 32 (or any number with ``normx=False``).
        guide_channels: Channels ``C_g`` of the guide, likewise (``normy``). The default is ``in_channels``.
        scale_factor: Integer ratio ``s``.
        embedding_dim: Channels ``E`` of keys and queries.
        groups: Number of groups of channels of the convolutions that compare them.
        gn_dim: Number of groups of the norms of the scores.
        radius: Radius of the windows of the guided filter, in output pixels.
        eps: Regularises the guided filter.
        gf_scale: The guided filter is computed on every ``gf_scale``-th pixel.
        normx: Whether to normalise the map for the keys.
        normy: Whether to normalise the guide.
        init_cfg: mmengine's initialisation, which overrides the authors': normal distributions with a standard deviation of 0.02 for the
            1x1 convolutions and Kaiming's for the others.
        device: The device of the parameters.
        dtype: The dtype of the parameters.

    Raises:
        ValueError: An argument has an invalid value, or the channels are not divisible by the groups.
    """

    def __init__(
        self,
        in_channels: int,
        guide_channels: Optional[int] = None,
        scale_factor: int = 2,
        embedding_dim: int = 32,
        groups: int = 4,
        gn_dim: int = 8,
        radius: int = 8,
        eps: float = 1e-3,
        gf_scale: int = 2,
        normx: bool = True,
        normy: bool = True,
        init_cfg: Any = None,
        device: Any = None,
        dtype: Optional[torch.dtype] = None,
    ) -> None:
        super().__init__(in_channels, guide_channels, scale_factor, init_cfg)
        embedding_dim, groups, gn_dim = check_positive(embedding_dim=embedding_dim, groups=groups, gn_dim=gn_dim)
        radius, gf_scale = check_positive(radius=radius, gf_scale=gf_scale)
        check_positive_number(eps=eps)
        check_bool(normx=normx, normy=normy)
        if embedding_dim % groups or embedding_dim % gn_dim or FEATURES % groups or FEATURES % gn_dim:
            raise ValueError(
                f'embedding_dim and {FEATURES} must be divisible by groups and by gn_dim, got {embedding_dim=}, {groups=}, {gn_dim=}'
            )
        factory: dict[str, Any] = {'device': device, 'dtype': dtype}
        self.radius, self.eps, self.gf_scale = radius, eps, gf_scale
        self.norm_x = _norm('in_channels', self.in_channels, **factory) if normx else None
        self.norm_y = _norm('guide_channels', self.guide_channels, **factory) if normy else None
        self.q = nn.Conv2d(self.guide_channels, embedding_dim, 1, **factory)
        self.k = nn.Conv2d(self.in_channels, embedding_dim, 1, **factory)
        self.semantic_scores = Scores(embedding_dim, groups, gn_dim, self.scale_factor, **factory)
        self.detail_scores = Scores(embedding_dim, groups, gn_dim, self.scale_factor, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as the published implementation does."""
        for conv in (self.q, self.k):
            normal(conv, std=0.02)
        for norm in (self.norm_x, self.norm_y):
            if norm is not None:
                constant(norm, 1.0)
        for scores in (self.semantic_scores, self.detail_scores):
            scores.reset_parameters()

    def upsample(self, x: Tensor, guide: Tensor) -> Tensor:
        """Upsample a map with the help of its guide; see :meth:`GuidedUpsampler.forward` for the shapes."""
        return attend_to_taps(x, self.predict_scores(x, guide), self.scale_factor)

    def predict_scores(self, x: Tensor, guide: Tensor) -> Tensor:
        """Return how well the 3x3 input pixels around each output pixel fit it.

        Args:
            x: ``(B, C, H, W)``.
            guide: ``(B, C_g, s*H, s*W)``.

        Returns:
            ``(B, 9, s*H, s*W)``, row by row.
        """
        query = self.q(guide if self.norm_y is None else self.norm_y(guide))
        key = F.interpolate(self.k(x if self.norm_x is None else self.norm_x(x)), size=guide.shape[2:], mode='bilinear')
        # Variances of half-precision numbers would be lost to rounding.
        wide = torch.promote_types(query.dtype, torch.float32)
        fitted = guided_filter(query.to(wide), key.to(wide), self.radius // self.gf_scale, self.eps, self.gf_scale).to(query.dtype)
        return lean_module(self.semantic_scores, key, fitted) + lean_module(self.detail_scores, gaussian_blur(query), query)


class Scores(nn.Module):
    """Compare the nine neighbours of each pixel of a key with the same pixel of a query.

    Args:
        channels: Channels ``E`` of both.
        groups: Number of groups of the convolutions.
        norm_groups: Number of groups of the norms.
        distance: Distance of the neighbours, in pixels.
        factory: ``device`` and ``dtype``.
    """

    def __init__(self, channels: int, groups: int, norm_groups: int, distance: int, **factory: Any) -> None:
        super().__init__()
        self.groups, self.distance = groups, distance
        # Its bias has no effect, because it cancels in the difference.
        self.norm = GroupNorm(norm_groups, channels, **factory)
        self.weight = nn.Parameter(torch.empty(FEATURES, channels // groups, 3, 3, **factory))
        self.bias = nn.Parameter(torch.empty(1, FEATURES, 1, 1, **factory))
        self.channel_compressor = nn.Sequential(
            nn.ReLU(inplace=True),
            nn.Conv2d(FEATURES, FEATURES, 1, groups=groups, **factory),
            nn.ReLU(inplace=True),
            GroupNorm(norm_groups, FEATURES, **factory),
            nn.Conv2d(FEATURES, 9, 1, **factory),
        )

    def reset_parameters(self) -> None:
        """Initialise as the published implementation does."""
        constant(self.norm, 1.0)
        constant(self.channel_compressor[3], 1.0)
        kaiming_normal(self)
        for layer in (self.channel_compressor[1], self.channel_compressor[4]):
            normal(layer, std=0.02)

    def forward(self, key: Tensor, query: Tensor) -> Tensor:
        """Return ``(B, 9, H, W)`` from a key and a query ``(B, E, H, W)``."""
        key, query = self.norm(key), self.norm(query)
        weight, bias = self.weight.to(key.dtype), self.bias.flatten().to(key.dtype)
        return self.channel_compressor(paired_difference(key, query, weight, bias, self.distance, self.groups))


def _norm(name: str, channels: int, **factory: Any) -> GroupNorm:
    groups = min(NORM_GROUPS, channels)
    if channels % groups:
        raise ValueError(f'{name} must be divisible by {NORM_GROUPS} or smaller, got {channels}')
    return GroupNorm(groups, channels, **factory)
