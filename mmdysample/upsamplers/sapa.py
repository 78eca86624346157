"""SAPA as modules: `Similarity-Aware Point Affiliation <https://arxiv.org/abs/2209.12866>`_ (Lu et al., NeurIPS 2022).

SAPA-D comes from the extended paper, `On Point Affiliation in Feature Upsampling <https://arxiv.org/abs/2307.08198>`_ (Liu et al., 2023).
"""

from typing import Any, Optional

import torch
from torch import Tensor, nn

from mmdysample.functional import deformable_attention, pixel_shuffle, reassemble, similarity

from .base import GuidedUpsampler, check_odd, check_positive
from .group_norm import GroupNorm, group_norm
from .initialisation import constant, xavier_uniform
from .registration import register_upsampler

NORM_GROUPS = 32


@register_upsampler('SAPA-I')
class SAPAI(GuidedUpsampler):
    """Upsample ``(B, C, H, W)`` to ``(B, C, s*H, s*W)``: each guide pixel attends to the ``k x k`` map pixels around its own position.

    The similarity is the inner product of the normalised map and guide, so the module has no parameters.

    Args:
        in_channels: Channels ``C`` of the map, a multiple of 32.
        guide_channels: Channels ``C_g`` of the guide, which must equal ``in_channels``, the default.
        scale_factor: Integer ratio ``s``.
        up_kernel: Odd size ``k`` of the neighbourhood.
        init_cfg: Has no effect, because the module has no parameters.
        device: Has no effect, for the same reason.
        dtype: Has no effect, for the same reason.

    Raises:
        ValueError: An argument has an invalid value, or ``guide_channels`` differs from ``in_channels``.
    """

    channel_divisor = NORM_GROUPS

    def __init__(
        self,
        in_channels: int,
        guide_channels: Optional[int] = None,
        scale_factor: int = 2,
        up_kernel: int = 5,
        init_cfg: Any = None,
        device: Any = None,
        dtype: Optional[torch.dtype] = None,
    ) -> None:
        super().__init__(in_channels, guide_channels, scale_factor, init_cfg)
        (self.up_kernel,) = check_odd(up_kernel=up_kernel)
        self._check_similarity()

    def _check_similarity(self) -> None:
        if self.guide_channels != self.in_channels:
            raise ValueError(
                'SAPA-I multiplies map and guide channel by channel, so guide_channels must equal in_channels, '
                f'got in_channels={self.in_channels}, guide_channels={self.guide_channels}; SAPA-B takes any'
            )

    def upsample(self, x: Tensor, guide: Tensor) -> Tensor:
        """Upsample a map with kernels predicted from it and its guide; see :meth:`GuidedUpsampler.forward` for the shapes."""
        return reassemble(x, self.predict_kernels(x, guide), self.scale_factor)

    def predict_kernels(self, x: Tensor, guide: Tensor) -> Tensor:
        """Return the reassembly kernels that the module predicts from a map and its guide.

        Args:
            x: ``(B, C, H, W)``.
            guide: ``(B, C_g, s*H, s*W)``.

        Returns:
            ``(B, k*k, s*H, s*W)``, float32 or wider; each kernel sums to one.
        """
        return similarity(*self.embed(x, guide), self.up_kernel, self.scale_factor).softmax(1)

    def embed(self, x: Tensor, guide: Tensor) -> tuple[Tensor, Tensor]:
        """Return the key ``(B, C, H, W)`` for a map and the query ``(B, C, s*H, s*W)`` for its guide."""
        return group_norm(x, NORM_GROUPS), group_norm(guide, NORM_GROUPS)


@register_upsampler('SAPA-B')
class SAPAB(SAPAI):
    """:class:`SAPAI` with a learned bilinear form as similarity: the inner product of an embedding of the map and one of the guide.

    Args:
        in_channels: Channels ``C`` of the map, a multiple of 32.
        guide_channels: Channels ``C_g`` of the guide, a multiple of 32. The default is ``in_channels``.
        scale_factor: Integer ratio ``s``.
        up_kernel: Odd size ``k`` of the neighbourhood.
        embedding_dim: Channels ``D`` of key and query.
        init_cfg: mmengine's initialisation, which overrides Xavier's.
        device: The device of the parameters.
        dtype: The dtype of the parameters.

    Raises:
        ValueError: An argument has an invalid value.
    """

    def __init__(
        self,
        in_channels: int,
        guide_channels: Optional[int] = None,
        scale_factor: int = 2,
        up_kernel: int = 5,
        embedding_dim: int = 32,
        init_cfg: Any = None,
        device: Any = None,
        dtype: Optional[torch.dtype] = None,
    ) -> None:
        super().__init__(in_channels, guide_channels, scale_factor, up_kernel, init_cfg)
        (embedding_dim,) = check_positive(embedding_dim=embedding_dim)
        factory: dict[str, Any] = {'device': device, 'dtype': dtype}
        self.norm_y = GroupNorm(NORM_GROUPS, self.guide_channels, **factory)
        self.norm_x = GroupNorm(NORM_GROUPS, self.in_channels, **factory)
        self.q = nn.Conv2d(self.guide_channels, embedding_dim, 1, **factory)
        self.k = nn.Conv2d(self.in_channels, embedding_dim, 1, **factory)
        self.reset_parameters()

    def _check_similarity(self) -> None:
        """Accept any ``guide_channels``, because the embeddings of map and guide always have ``D`` channels."""

    def reset_parameters(self) -> None:
        """Initialise the embeddings by Xavier's uniform distribution and the norms to weight 1 and bias 0."""
        for norm in (self.norm_x, self.norm_y):
            norm.reset_parameters()
        for conv in (self.q, self.k):
            xavier_uniform(conv)

    def embed(self, x: Tensor, guide: Tensor) -> tuple[Tensor, Tensor]:
        """Return the key ``(B, D, H, W)`` for a map and the query ``(B, D, s*H, s*W)`` for its guide."""
        return self.k(self.norm_x(x)), self.q(self.norm_y(guide))


@register_upsampler('SAPA-D')
class SAPAD(GuidedUpsampler):
    """Upsample ``(B, C, H, W)`` to ``(B, C, s*H, s*W)``: each pixel of the guide attends to learned points of the map.

    Args:
        in_channels: Channels ``C`` of the map.
        guide_channels: Channels ``C_g`` of the guide. The default is ``in_channels``.
        scale_factor: Integer ratio ``s``.
        groups: Number of groups of channels; each group has its own points, keys and queries.
        num_points: Number of points for each output pixel and group.
        embedding_dim: Channels of key and query in each group.
        init_cfg: mmengine's initialisation, which overrides the module's own: Xavier for the embeddings, and for the offset layer zero
            weights and a bias that puts the points on the nearest input pixels (for nine points, the 3x3 neighbourhood).
        device: The device of the parameters.
        dtype: The dtype of the parameters.

    Raises:
        ValueError: An argument is not a positive integer, or ``in_channels`` is not divisible by ``groups``.
    """

    def __init__(
        self,
        in_channels: int,
        guide_channels: Optional[int] = None,
        scale_factor: int = 2,
        groups: int = 4,
        num_points: int = 9,
        embedding_dim: int = 32,
        init_cfg: Any = None,
        device: Any = None,
        dtype: Optional[torch.dtype] = None,
    ) -> None:
        super().__init__(in_channels, guide_channels, scale_factor, init_cfg)
        groups, num_points, embedding_dim = check_positive(groups=groups, num_points=num_points, embedding_dim=embedding_dim)
        factory: dict[str, Any] = {'device': device, 'dtype': dtype}
        if in_channels % groups:
            raise ValueError(f'in_channels must be divisible by groups, got {in_channels=}, {groups=}')
        self.groups = groups
        self.num_points = num_points
        self.q = nn.Conv2d(self.guide_channels, groups * embedding_dim, 1, **factory)
        self.k = nn.Conv2d(self.in_channels, groups * embedding_dim, 1, **factory)
        self.offset = nn.Conv2d(self.in_channels, 2 * groups * num_points * self.scale_factor**2, 1, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the embeddings by Xavier, and the points on different input pixels, because equal points would stay equal."""
        for conv in (self.q, self.k):
            xavier_uniform(conv)
        points = _nearest_grid_points(self.num_points).view(1, self.num_points, 2, 1)
        constant(self.offset, 0)
        with torch.no_grad():
            self.offset.get_parameter('bias').copy_(points.expand(self.groups, -1, -1, self.scale_factor**2).flatten())

    def upsample(self, x: Tensor, guide: Tensor) -> Tensor:
        """Upsample a map by attention from its guide; see :meth:`GuidedUpsampler.forward` for the shapes."""
        offset = pixel_shuffle(self.offset(x), self.scale_factor)
        return deformable_attention(self.q(guide), self.k(x), x, offset, self.scale_factor, self.groups, self.num_points)


def _nearest_grid_points(count: int) -> Tensor:
    """Return the ``count`` points of the integer grid that are nearest to the origin, ``(count, 2)``, x before y."""
    reach = range(-count, count + 1)
    points = sorted(((x, y) for y in reach for x in reach), key=lambda p: p[0] ** 2 + p[1] ** 2)
    return torch.tensor(points[:count], dtype=torch.float32)
