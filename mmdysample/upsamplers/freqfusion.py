"""FreqFusion as a module: `Frequency-aware Feature Fusion for Dense Image Prediction <https://arxiv.org/abs/2408.12879>`_.

Chen et al., IEEE TPAMI 2024.
"""

from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn

from mmdysample.functional import pixel_shuffle, reassemble, sample_points
from mmdysample.functional.frequency import hamming_kernel, neighbour_cosines, windowed_softmax
from mmdysample.functional.resize import resize_nearest

from .base import GuidedUpsampler, check_bool, check_odd, check_positive
from .group_norm import GroupNorm
from .initialisation import normal, xavier_uniform
from .registration import register_upsampler

LOW_PASS, HIGH_PASS = 5, 3  # sizes of the kernels
DIRECTIONS = ('sim_concat', 'sim')


class Kernels(NamedTuple):
    """What FreqFusion predicts from a map and its guide.

    Attributes:
        low: Kernels of the low pass, ``(B, 25, 2*H, 2*W)``.
        high: Logits of the kernels of the high pass without the share of the coarse map, ``(B, 9, 2*H, 2*W)``.
        fine: The compressed guide, ``(B, d, 2*H, 2*W)``.
        coarse: The compressed map, ``(B, d, H, W)``.
    """

    low: Tensor
    high: Tensor
    fine: Tensor
    coarse: Tensor


@register_upsampler()
class FreqFusion(GuidedUpsampler):
    """Upsample ``(B, C, H, W)`` to ``(B, C, 2*H, 2*W)`` by an adaptive low pass, and sharpen the guide by an adaptive high pass.

    Both kernels are predicted from the map and the guide. An offset generator then moves each output pixel towards neighbours that are more
    like each other. The method has two results, which a neck adds or concatenates: the map and the enhanced guide. The necks and heads of
    this package take both (``module(x, guide, both=True)``); other models get the map alone.

    The names of the arguments and of the weights are those of the authors' class. Unlike there, the offset generator is on by default, as
    in all of their published configurations.

    Args:
        in_channels: Channels ``C`` of the map.
        guide_channels: Channels ``C_g`` of the guide. The default is ``in_channels``.
        scale_factor: Must be 2.
        compressed_channels: Channels ``d`` to which 1x1 convolutions reduce the map and the guide: ``(C + C_g) / 8`` in the authors'
            detectors, and ``(C + C_g) / 4`` in their segmenters.
        encoder_kernel: Odd kernel size of the convolutions that predict kernels and offsets.
        feature_resample: Whether to use the offset generator.
        feature_resample_group: Number of groups ``G`` of channels that share offsets.
        feature_resample_norm: Whether the offset generator normalises what it reads. Off in the authors' Panoptic FPN.
        hamming_window: Whether to multiply the kernels by a Hamming window. Off in the authors' segmenters.
        comp_feat_upsample: Whether to upsample the coarse logits by a first guess of the kernels, or else by nearest neighbours.
        direction_feat: What the offset generator reads beside the similarities of neighbours: ``'sim_concat'``, the compressed features in
            all convolutions; ``'sim'``, as in the authors' segmenters, the features alone for the scales, and nothing else for the offsets.
        xavier_offsets: Whether the offset generator starts from Xavier's distribution, as in the released code, whose initialisation of the
            whole module overwrites that of the offset generator: a standard deviation of 0.001 for the offsets and zeros for the scales,
            the default here. With Xavier's, the points start at random places.
        init_cfg: mmengine's initialisation, which overrides the module's own: Xavier for the 1x1 convolutions, and a normal distribution
            with a standard deviation of 0.001 for those that predict kernels.
        device: The device of the parameters.
        dtype: The dtype of the parameters.

    Raises:
        ValueError: An argument has an invalid value; ``in_channels`` is not divisible by ``feature_resample_group``; or
            ``compressed_channels`` is not divisible by the number of groups of its norm, ``compressed_channels // 8``.
    """

    scale_factors = (2,)
    enhances_guide = True

    def __init__(
        self,
        in_channels: int,
        guide_channels: Optional[int] = None,
        scale_factor: int = 2,
        compressed_channels: int = 64,
        encoder_kernel: int = 3,
        feature_resample: bool = True,
        feature_resample_group: int = 4,
        feature_resample_norm: bool = True,
        hamming_window: bool = True,
        comp_feat_upsample: bool = True,
        direction_feat: str = 'sim_concat',
        xavier_offsets: bool = False,
        init_cfg: Any = None,
        device: Any = None,
        dtype: Optional[torch.dtype] = None,
    ) -> None:
        super().__init__(in_channels, guide_channels, scale_factor, init_cfg)
        (encoder_kernel,) = check_odd(encoder_kernel=encoder_kernel)
        check_bool(feature_resample=feature_resample, feature_resample_norm=feature_resample_norm, hamming_window=hamming_window)
        check_bool(comp_feat_upsample=comp_feat_upsample, xavier_offsets=xavier_offsets)
        compressed_channels, groups = check_positive(compressed_channels=compressed_channels, feature_resample_group=feature_resample_group)
        if direction_feat not in DIRECTIONS:
            raise ValueError(f'direction_feat must be one of {", ".join(DIRECTIONS)}, got {direction_feat!r}')
        if feature_resample and self.in_channels % groups:
            raise ValueError(
                f'in_channels must be divisible by feature_resample_group, got {in_channels=}, feature_resample_group={groups}'
            )
        factory: dict[str, Any] = {'device': device, 'dtype': dtype}
        self.hamming_window = hamming_window
        self.comp_feat_upsample = comp_feat_upsample
        self.xavier_offsets = xavier_offsets
        self.hr_channel_compressor = nn.Conv2d(self.guide_channels, compressed_channels, 1, **factory)
        self.lr_channel_compressor = nn.Conv2d(self.in_channels, compressed_channels, 1, **factory)
        encoder: dict[str, Any] = {'kernel_size': encoder_kernel, 'padding': encoder_kernel // 2, **factory}
        self.content_encoder = nn.Conv2d(compressed_channels, LOW_PASS**2, **encoder)
        self.content_encoder2 = nn.Conv2d(compressed_channels, HIGH_PASS**2, **encoder)
        self.dysampler = (
            OffsetGenerator(compressed_channels, groups, feature_resample_norm, direction_feat, encoder) if feature_resample else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as the published implementation does, except for the offset generator."""
        for conv in (self.hr_channel_compressor, self.lr_channel_compressor):
            xavier_uniform(conv)
        for conv in (self.content_encoder, self.content_encoder2):
            normal(conv, std=0.001)
        if self.dysampler is not None:
            self.dysampler.reset_parameters()
            for conv in self.dysampler.convolutions if self.xavier_offsets else ():
                xavier_uniform(conv)

    def upsample(self, x: Tensor, guide: Tensor) -> Tensor:
        """Upsample a map; see :meth:`GuidedUpsampler.forward` for the shapes."""
        return self._upsample_by(x, self.predict_kernels(x, guide))

    def upsample_and_enhance(self, x: Tensor, guide: Tensor) -> tuple[Tensor, Tensor]:
        """Upsample a map and enhance its guide; see :meth:`GuidedUpsampler.forward` for the shapes."""
        kernels = self.predict_kernels(x, guide)
        coarse = self.content_encoder2(kernels.coarse)
        high = kernels.high + (reassemble(coarse, kernels.low) if self.comp_feat_upsample else resize_nearest(coarse, 2))
        smooth = reassemble(guide, self._normalised(high, HIGH_PASS), scale_factor=1)
        return self._upsample_by(x, kernels), guide + (guide - smooth)

    def predict_kernels(self, x: Tensor, guide: Tensor) -> Kernels:
        """Return the kernels that the module predicts from a map ``(B, C, H, W)`` and a guide ``(B, C_g, 2*H, 2*W)``."""
        fine, coarse = self.hr_channel_compressor(guide), self.lr_channel_compressor(x)
        high = self.content_encoder2(fine)
        by_coarse = self.content_encoder(coarse)
        if not self.comp_feat_upsample:
            low = self.content_encoder(fine) + resize_nearest(by_coarse, 2)
            return Kernels(self._normalised(low, LOW_PASS), high, fine, coarse)
        fine = fine + (fine - reassemble(fine, self._normalised(high, HIGH_PASS), scale_factor=1))
        low = self.content_encoder(fine)
        low = low + reassemble(by_coarse, self._normalised(low, LOW_PASS))
        return Kernels(self._normalised(low, LOW_PASS), high, fine, coarse)

    def _normalised(self, logits: Tensor, kernel_size: int) -> Tensor:
        return windowed_softmax(logits, hamming_kernel(kernel_size, logits) if self.hamming_window else None)

    def _upsample_by(self, x: Tensor, kernels: Kernels) -> Tensor:
        y = reassemble(x, kernels.low)
        if self.dysampler is None:
            return y
        offset, scale = self.dysampler(kernels.fine, kernels.coarse)
        return sample_points(y, offset, scale, scale_factor=1, groups=self.dysampler.groups)


class OffsetGenerator(nn.Module):
    """Predict how far each output pixel moves, from the similarities of its neighbours and those of its input pixel.

    Args:
        channels: Channels ``d`` of both maps.
        groups: Number of groups ``G`` of channels that share offsets.
        norm: Whether to normalise both maps.
        direction: As ``direction_feat`` of :class:`FreqFusion`.
        conv: The arguments of the convolutions, beside the channels.

    Raises:
        ValueError: ``channels`` is smaller than 8 or not divisible by ``channels // 8``, and there are norms.
    """

    def __init__(self, channels: int, groups: int, norm: bool, direction: str, conv: dict[str, Any]) -> None:
        super().__init__()
        self.groups = groups
        self.direction = direction
        factory = {key: conv[key] for key in ('device', 'dtype')}
        norm_groups = channels // 8
        if norm and (norm_groups == 0 or channels % norm_groups):
            raise ValueError(
                'compressed_channels must be at least 8 and divisible by compressed_channels // 8 for feature_resample_norm, '
                f'got {channels}'
            )
        self.norm_hr, self.norm_lr = (GroupNorm(norm_groups, channels, **factory) if norm else None for _ in range(2))
        of_offset, of_scale = (channels + 8, channels + 8) if direction == 'sim_concat' else (8, channels)
        self.offset = nn.Conv2d(of_offset, 8 * groups, **conv)
        self.direct_scale = nn.Conv2d(of_scale, 8 * groups, **conv)
        self.hr_offset = nn.Conv2d(of_offset, 2 * groups, **conv)
        self.hr_direct_scale = nn.Conv2d(of_scale, 2 * groups, **conv)

    @property
    def convolutions(self) -> list[nn.Conv2d]:
        """The four convolutions."""
        return [self.offset, self.direct_scale, self.hr_offset, self.hr_direct_scale]

    def reset_parameters(self) -> None:
        """Let the points start near the centres of their pixels."""
        for conv, std in zip(self.convolutions, (0.001, 0.0, 0.001, 0.0)):
            normal(conv, std)
        for norm in (self.norm_hr, self.norm_lr):
            if norm is not None:
                norm.reset_parameters()

    def forward(self, fine: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """Return raw offsets and scales, both ``(B, 2*G, 2*H, 2*W)``, the channels ordered as (x | y, group).

        Args:
            fine: ``(B, d, 2*H, 2*W)``.
            coarse: ``(B, d, H, W)``.
        """
        fine = fine if self.norm_hr is None else self.norm_hr(fine)
        coarse = coarse if self.norm_lr is None else self.norm_lr(coarse)
        of_offset, of_scale = zip(*map(self._read, (fine, coarse)))
        offset = self.hr_offset(of_offset[0]) + pixel_shuffle(self.offset(of_offset[1]), 2)
        return offset, self.hr_direct_scale(of_scale[0]) + pixel_shuffle(self.direct_scale(of_scale[1]), 2)

    def _read(self, m: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the convolutions of offsets and of scales read of a map."""
        similar = neighbour_cosines(m)
        if self.direction == 'sim':
            return similar, m
        both = torch.cat((m, similar), dim=1)
        return both, both
