"""FADE as modules: `Fusing the Assets of Decoder and Encoder <https://arxiv.org/abs/2207.10392>`_ (Lu et al., ECCV 2022).

FADE-Lite comes from the journal version of the paper (IJCV 2024).
"""

from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdysample.functional import pixel_shuffle, reassemble
from mmdysample.functional.resize import resize_nearest

from .base import GuidedUpsampler, check_bool, check_odd, check_positive
from .initialisation import normal, xavier_uniform
from .registration import register_upsampler


@register_upsampler()
class FADE(GuidedUpsampler):
    """Upsample ``(B, C, H, W)`` to ``(B, C, s*H, s*W)`` with kernels predicted from the map and from a guide.

    The same convolution is applied to the guide and to the map, each at its own size, and the results are added ("semi-shift
    convolution"). A gate predicted from the map then mixes the guide into the output.

    Args:
        in_channels: Channels ``C`` of the map.
        guide_channels: Channels ``C_g`` of the guide. The default is ``in_channels``, which the gate requires.
        scale_factor: Integer ratio ``s``.
        gating: Whether to mix the guide into the output. The published results use the gate in segmentation. They do not use it in
            detection, where the neck adds the guide; :class:`mmdysample.FPN` therefore turns it off by default.
        up_kernel: Odd size ``k`` of the neighbourhood that is reassembled.
        compressed_channels: Input channels of the convolution, to which 1x1 convolutions reduce the guide and the map.
        released_order: Whether to read the guide as the authors' first release of the gated FADE does; its weights require this. That
            release pads the guide in four ways, one for each of the four output pixels of an input pixel. It then mixes up the channels, so
            that each output pixel reads a quarter of its channels from each padding. Only for ``scale_factor=2``.
        init_cfg: mmengine's initialisation, which overrides CARAFE's: Xavier for the 1x1 convolutions that compress, and a normal
            distribution with a standard deviation of 0.001 for the others.
        device: The device of the parameters.
        dtype: The dtype of the parameters.

    Raises:
        ValueError: An argument has an invalid value; the gate is on and ``guide_channels`` differs from ``in_channels``; or
            ``released_order`` is set and ``scale_factor`` is not 2 or ``compressed_channels`` is not divisible by 4.
    """

    _depthwise = False

    def __init__(
        self,
        in_channels: int,
        guide_channels: Optional[int] = None,
        scale_factor: int = 2,
        gating: bool = True,
        up_kernel: int = 5,
        compressed_channels: int = 64,
        released_order: bool = False,
        init_cfg: Any = None,
        device: Any = None,
        dtype: Optional[torch.dtype] = None,
    ) -> None:
        super().__init__(in_channels, guide_channels, scale_factor, init_cfg)
        (up_kernel,) = check_odd(up_kernel=up_kernel)
        check_bool(gating=gating, released_order=released_order)
        (compressed_channels,) = check_positive(compressed_channels=compressed_channels)
        in_channels = self.in_channels
        factory: dict[str, Any] = {'device': device, 'dtype': dtype}
        if gating and self.guide_channels != in_channels:
            raise ValueError(f'the gate needs guide_channels equal to in_channels, got {in_channels=}, {guide_channels=}; use gating=False')
        if released_order and (scale_factor != 2 or compressed_channels % 4):
            raise ValueError(
                f'released_order needs scale_factor=2 and compressed_channels divisible by 4, got {scale_factor=}, {compressed_channels=}'
            )
        self.released_order = released_order
        self.guide_compressor = nn.Conv2d(self.guide_channels, compressed_channels, 1, **factory)
        self.map_compressor = nn.Conv2d(in_channels, compressed_channels, 1, bias=False, **factory)
        groups = compressed_channels if self._depthwise else 1
        self.content_encoder = nn.Conv2d(compressed_channels, up_kernel**2, 3, padding=1, groups=groups, **factory)
        self.gate = nn.Conv2d(in_channels, 1, 1, **factory) if gating else None
        self.reset_parameters()

    @property
    def gating(self) -> bool:
        """Whether the guide is mixed into the output."""
        return self.gate is not None

    def reset_parameters(self) -> None:
        """Initialise as CARAFE does: Xavier for the compressors, and a standard deviation of 0.001 for the other convolutions."""
        for compressor in (self.guide_compressor, self.map_compressor):
            xavier_uniform(compressor)
        for conv in (self.content_encoder, self.gate):
            if conv is not None:
                normal(conv, std=0.001)

    def upsample(self, x: Tensor, guide: Tensor) -> Tensor:
        """Upsample a map with kernels predicted from it and its guide; see :meth:`GuidedUpsampler.forward` for the shapes."""
        out = reassemble(x, self.predict_kernels(x, guide), self.scale_factor)
        if self.gate is None:
            return out
        gate = self.gate(x).sigmoid().to(x.dtype)
        return torch.lerp(out, guide.to(x.dtype), resize_nearest(gate, self.scale_factor))

    def predict_kernels(self, x: Tensor, guide: Tensor) -> Tensor:
        """Return the reassembly kernels that the module predicts from a map and its guide.

        Args:
            x: ``(B, C, H, W)``.
            guide: ``(B, C_g, s*H, s*W)``.

        Returns:
            ``(B, k*k, s*H, s*W)``, float32 or wider; each kernel sums to one.
        """
        compressed = self.guide_compressor(guide)
        # The paper convolves the guide at stride 2 under four paddings. One convolution at stride 1 gives the same result, for any s.
        fine = self._encode_in_released_order(compressed) if self.released_order else self.content_encoder(compressed)
        coarse = self.content_encoder(self.map_compressor(x))
        logits = fine + resize_nearest(coarse, self.scale_factor)
        return logits.softmax(1, dtype=torch.promote_types(logits.dtype, torch.float32))

    def _encode_in_released_order(self, guide: Tensor) -> Tensor:
        paddings = ((1, 0, 1, 0), (0, 1, 1, 0), (1, 0, 0, 1), (0, 1, 0, 1))  # one for each output pixel of an input pixel, row by row
        mixed = torch.cat([F.pad(guide, padding) for padding in paddings], dim=1)
        mixed = mixed.reshape(guide.shape[0], guide.shape[1], 4, *mixed.shape[2:])
        # The release convolves without padding at stride 2. Calling the layer, which pads, and keeping every second output honours hooks.
        parts = [self.content_encoder(part)[:, :, 1:-1:2, 1:-1:2] for part in mixed.unbind(2)]
        return pixel_shuffle(torch.stack(parts, dim=2).flatten(1, 2), 2)


@register_upsampler('FADE-Lite')
class FADELite(FADE):
    """:class:`FADE` with a depthwise convolution instead of a full one, and ``k*k`` compressed channels, one for each kernel weight."""

    _depthwise = True

    def __init__(
        self,
        in_channels: int,
        guide_channels: Optional[int] = None,
        scale_factor: int = 2,
        gating: bool = True,
        up_kernel: int = 5,
        init_cfg: Any = None,
        device: Any = None,
        dtype: Optional[torch.dtype] = None,
    ) -> None:
        (up_kernel,) = check_odd(up_kernel=up_kernel)
        options: dict[str, Any] = {'init_cfg': init_cfg, 'device': device, 'dtype': dtype}
        super().__init__(in_channels, guide_channels, scale_factor, gating, up_kernel, up_kernel**2, **options)
