"""RT-DETR's hybrid encoder as a neck with a configurable upsampler."""

from typing import Any, Optional

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule, ModuleList
from torch import Tensor

from mmdysample.frameworks import require
from mmdysample.functional.positions import sine_positions
from mmdysample.registry import MODELS
from mmdysample.upsamplers.base import ShapeError, check_positive
from mmdysample.upsamplers.builder import UpsampleConfig, named_config
from mmdysample.upsamplers.fit import build_steps, upsample_as

from .csp_rep import CSPRepLayer

require('mmdet', 'mmdysample.RTDETRFusion')

from mmdet.models.layers import DetrTransformerEncoder  # noqa: E402


@MODELS.register_module()
class RTDETRFusion(BaseModule):
    """The hybrid encoder of RT-DETR (Zhao et al., CVPR 2024, arXiv 2304.08069, section 4.2).

    ::

        C5 -- 1x1 -- AIFI -- 1x1 -- o ------------------------ cat -- CSP --> P5
                                    | upsampler 1               | 3x3, stride 2
        C4 -- 1x1 ---------------- cat -- CSP -- 1x1 -- o ---- cat -- CSP --> P4
                                                        | upsampler 0
        C3 -- 1x1 ------------------------------------ cat -- CSP --------> P3, and by a 3x3 with stride 2 into P4

    AIFI is a transformer encoder on the coarsest level only. It is followed by CCFF, a top-down and a bottom-up path of CSP layers. Each
    step of the top-down path has its own upsampler. A guided upsampler also reads the finer map that its output is concatenated with.
    Where the finer map has an odd size, the output is cropped or extended to it. AIFI does not mask the padding of smaller images in a
    batch.

    Args:
        in_channels: Channels of the backbone's maps.
        out_channels: Channels of every level.
        upsample_cfg: The upsampler: a dict with a ``type``, a name or a class, see :func:`~mmdysample.build_upsampler`. If it is absent
            or has no ``type``, it holds the arguments of ``F.interpolate``; the default is ``dict(mode='nearest')``, as in RT-DETR.
        expansion: Width of the CSP layers, as a factor of ``out_channels``; RT-DETR-R18 has 0.5, R50 has 1.0.
        num_blocks: Number of RepVGG blocks in each CSP layer.
        encoder_layers: Number of layers of AIFI; 0 omits AIFI.
        num_heads: Number of attention heads of AIFI.
        feedforward_channels: Hidden channels of AIFI's feed-forward network.
        temperature: The temperature of the positional encoding in AIFI.
        norm_cfg: The normalisation after each convolution.
        act_cfg: The activation of CCFF.
        init_cfg: mmengine's initialisation.

    Raises:
        ValueError: The upsampler is unknown or does not fit ``out_channels``, a size is not a positive integer, ``expansion`` leaves no
            channel, or ``out_channels`` is not divisible by 4 and by ``num_heads``.
    """

    def __init__(
        self,
        in_channels: list[int],
        out_channels: int = 256,
        upsample_cfg: Optional[UpsampleConfig] = None,
        expansion: float = 1.0,
        num_blocks: int = 3,
        encoder_layers: int = 1,
        num_heads: int = 8,
        feedforward_channels: int = 1024,
        temperature: float = 10000.0,
        norm_cfg: dict[str, Any] = dict(type='BN'),
        act_cfg: dict[str, Any] = dict(type='SiLU'),
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_positive(out_channels=out_channels, num_blocks=num_blocks, num_heads=num_heads, feedforward_channels=feedforward_channels)
        for name, divisor in (('4', 4), ('num_heads', num_heads)):
            if out_channels % divisor:
                raise ValueError(f'out_channels must be divisible by {name}, got out_channels={out_channels}, num_heads={num_heads}')
        if int(out_channels * expansion) < 1:
            raise ValueError(f'expansion must leave a channel, got expansion={expansion} of out_channels={out_channels}')
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.temperature = temperature
        steps = len(in_channels) - 1
        norm = dict(norm_cfg=norm_cfg)
        norm_act = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)

        def fusion_blocks() -> ModuleList:
            return ModuleList([CSPRepLayer(2 * out_channels, out_channels, expansion, num_blocks, **norm_act) for _ in range(steps)])

        self.input_proj = ModuleList([ConvModule(channels, out_channels, 1, act_cfg=None, **norm) for channels in in_channels])
        self.encoder = _transformer_encoder(encoder_layers, out_channels, num_heads, feedforward_channels)
        # The modules of the top-down path are numbered from the coarsest level, as in RT-DETR; the upsamplers from the finest, as in FPN.
        self.lateral_convs = ModuleList([ConvModule(out_channels, out_channels, 1, **norm_act) for _ in range(steps)])
        self.fpn_blocks = fusion_blocks()
        self.downsample_convs = ModuleList([ConvModule(out_channels, out_channels, 3, 2, 1, **norm_act) for _ in range(steps)])
        self.pan_blocks = fusion_blocks()

        named = named_config(upsample_cfg)
        self.upsample_cfg: Any = dict(mode='nearest') if named or not upsample_cfg else upsample_cfg
        self.upsample_modules = build_steps(named, out_channels, steps) if named else ModuleList()

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the fused levels.

        Args:
            inputs: The backbone's maps, ``(B, in_channels[i], H_i, W_i)``, each half the size of the one before it, rounded up or down.

        Returns:
            The same number of maps, ``(B, out_channels, H_i, W_i)``, finest first.

        Raises:
            ShapeError: The number of maps differs from ``in_channels``, or neighbouring maps do not differ by the ratio of the upsampler.
        """
        if len(inputs) != len(self.in_channels):
            raise ShapeError(f'in_channels={self.in_channels} lists {len(self.in_channels)} maps, got {len(inputs)}')
        maps = [conv(x) for conv, x in zip(self.input_proj, inputs)]
        maps[-1] = self._attend(maps[-1])
        return self._bottom_up(self._top_down(maps))

    def _attend(self, x: Tensor) -> Tensor:
        """Apply AIFI (attention-based intra-scale feature interaction) to a map."""
        if self.encoder is None:
            return x
        tokens = self.encoder(x.flatten(2).transpose(1, 2), sine_positions(x, self.temperature), None)
        return tokens.transpose(1, 2).reshape(x.shape)

    def _top_down(self, maps: list[Tensor]) -> list[Tensor]:
        for step, (lateral, fuse) in enumerate(zip(self.lateral_convs, self.fpn_blocks)):
            i = len(maps) - 2 - step
            maps[i + 1] = lateral(maps[i + 1])
            maps[i] = fuse(torch.cat([self._upsample(i, maps[i + 1], maps[i]), maps[i]], dim=1))
        return maps

    def _upsample(self, i: int, x: Tensor, finer: Tensor) -> Tensor:
        if self.upsample_modules:
            return upsample_as(self.upsample_modules[i], x, finer)
        return F.interpolate(x, size=finer.shape[2:], **self.upsample_cfg)

    def _bottom_up(self, maps: list[Tensor]) -> tuple[Tensor, ...]:
        outs = maps[:1]
        for x, down, fuse in zip(maps[1:], self.downsample_convs, self.pan_blocks):
            outs.append(fuse(torch.cat([down(outs[-1]), x], dim=1)))
        return tuple(outs)


def _transformer_encoder(layers: int, channels: int, num_heads: int, feedforward_channels: int) -> Optional[DetrTransformerEncoder]:
    """Return the layers of AIFI, mmdet's with the GELU of RT-DETR; None for 0 layers."""
    if not layers:
        return None
    attention = dict(embed_dims=channels, num_heads=num_heads, dropout=0.0)
    feedforward = dict(embed_dims=channels, feedforward_channels=feedforward_channels, num_fcs=2, ffn_drop=0.0, act_cfg=dict(type='GELU'))
    return DetrTransformerEncoder(layers, dict(self_attn_cfg=attention, ffn_cfg=feedforward))
