"""Feature Pyramid Network with a configurable upsampler."""

from typing import Any, Optional

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import ModuleList
from torch import Tensor

from mmdysample.registry import MODELS
from mmdysample.upsamplers.builder import UpsampleConfig, named_config
from mmdysample.upsamplers.fit import build_steps, upsample_both

from .stock import StockFPN


@MODELS.register_module()
class FPN(StockFPN):
    """mmdet's FPN with a configurable upsampler in its top-down path.

    ::

        C5 -> lateral 3 -- o -- conv 3 -> P5
                           | upsampler 2
        C4 -> lateral 2 -- + -- conv 2 -> P4
                           | upsampler 1
        C3 -> lateral 1 -- + -- conv 1 -> P3
                           | upsampler 0
        C2 -> lateral 0 -- + -- conv 0 -> P2

    Each step has its own upsampler. A guided upsampler also reads the finer lateral; FreqFusion also enhances it before the sum.
    :func:`~mmdysample.upsamplers.fit.upsample_to` says what happens where the finer map has an odd size.
    Extra levels above P5 are computed as in mmdet, unless ``fuse_extra_levels`` is set.

    Args:
        in_channels: Channels of the backbone's maps.
        out_channels: Channels of the pyramid's maps.
        num_outs: Number of levels of the pyramid.
        upsample_cfg: The upsampler: a dict with a ``type``, a name or a class, see :func:`~mmdysample.build_upsampler`. If it is absent
            or has no ``type``, it holds the arguments of ``F.interpolate`` (``dict(mode='nearest')`` by default), and the output is
            identical to mmdet's FPN.
        fuse_extra_levels: Whether extra levels take part in the top-down path, each with its own upsampler. An extra level is then a 3x3
            convolution with stride 2 of C5, or of the extra lateral below it. This is the topology of mmdet's ``FPN_CARAFE``, with which
            the DySample paper trained Faster and Mask R-CNN: four upsamplers for P2 to P6. Pad images to a multiple of the stride of the
            last level (64 for P6).
        kwargs: As in mmdet's FPN: ``start_level``, ``end_level``, ``add_extra_convs``, ``relu_before_extra_convs``,
            ``no_norm_on_lateral``, ``conv_cfg``, ``norm_cfg``, ``act_cfg``, ``init_cfg``.

    Raises:
        ValueError: The upsampler is unknown or does not fit ``out_channels``, or both ``fuse_extra_levels`` and ``add_extra_convs`` are on.
    """

    def __init__(
        self,
        in_channels: list[int],
        out_channels: int,
        num_outs: int,
        upsample_cfg: Optional[UpsampleConfig] = None,
        fuse_extra_levels: bool = False,
        **kwargs: Any,
    ) -> None:
        named = named_config(upsample_cfg)
        stock_cfg = dict(mode='nearest') if named or not upsample_cfg else upsample_cfg
        super().__init__(in_channels, out_channels, num_outs, upsample_cfg=stock_cfg, **kwargs)
        self.fuse_extra_levels = fuse_extra_levels
        if fuse_extra_levels:
            if self.add_extra_convs:
                raise ValueError(f'fuse_extra_levels makes the extra levels, so add_extra_convs must be off, got {self.add_extra_convs!r}')
            self._add_fused_levels(**{key: kwargs.get(key) for key in ('conv_cfg', 'norm_cfg', 'act_cfg')})
            options = dict(self.upsample_cfg)
            named = named or {'type': options.pop('mode', 'nearest'), **options}
        steps = len(self.lateral_convs) - 1
        # FADE's gate would add the lateral to its output. It is off as in the published detectors: the FPN adds the lateral itself.
        self.upsample_modules = build_steps(named, out_channels, steps, {'gating': False}) if named else ModuleList()

    def _add_fused_levels(self, **conv: Any) -> None:
        """Append the laterals and output convolutions of the extra levels."""
        below = self.in_channels[self.backbone_end_level - 1]
        for _ in range(self.num_outs - len(self.lateral_convs)):
            self.lateral_convs.append(ConvModule(below, self.out_channels, 3, stride=2, padding=1, inplace=False, **conv))
            self.fpn_convs.append(ConvModule(self.out_channels, self.out_channels, 3, padding=1, inplace=False, **conv))
            below = self.out_channels

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the maps of the pyramid.

        Args:
            inputs: The backbone's maps, ``(B, in_channels[i], H_i, W_i)``, each half the size of the one before it, rounded up or down.

        Returns:
            ``num_outs`` maps ``(B, out_channels, H_i, W_i)``, finest first.
        """
        if not self.upsample_modules:
            return super().forward(inputs)
        laterals = self._laterals(inputs)
        for i, upsampler in reversed(list(enumerate(self.upsample_modules))):
            upsampled, lateral = upsample_both(upsampler, laterals[i + 1], laterals[i])
            laterals[i] = lateral + upsampled
        outs = [conv(lateral) for conv, lateral in zip(self.fpn_convs, laterals)]
        return (*outs, *self._extra_levels(inputs, laterals, outs))

    def _laterals(self, inputs: tuple[Tensor, ...]) -> list[Tensor]:
        sources = inputs[self.start_level : self.backbone_end_level]
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, sources)]
        top = sources[-1]
        for conv in self.lateral_convs[len(sources) :]:
            top = conv(top)
            laterals.append(top)
        return laterals

    def _extra_levels(self, inputs: tuple[Tensor, ...], laterals: list[Tensor], outs: list[Tensor]) -> list[Tensor]:
        """Return the levels above the top-down path, computed as in mmdet."""
        if not self.add_extra_convs:
            return [F.max_pool2d(outs[-1], 1, stride=2**i) for i in range(1, self.num_outs - len(outs) + 1)]
        sources = {'on_input': inputs[self.backbone_end_level - 1], 'on_lateral': laterals[-1], 'on_output': outs[-1]}
        x = sources[self.add_extra_convs]
        extra: list[Tensor] = []
        for conv in self.fpn_convs[len(outs) :]:
            x = conv(F.relu(x) if extra and self.relu_before_extra_convs else x)
            extra.append(x)
        return extra
