"""DenseDepth's decoder with a configurable upsampler."""

from itertools import pairwise
from typing import Any, Optional

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import ModuleList
from torch import Tensor, nn

from mmdysample.frameworks import require
from mmdysample.registry import MODELS
from mmdysample.upsamplers.builder import UpsampleConfig, build_upsampler, named_config, resolve
from mmdysample.upsamplers.fit import build_steps, upsample_as

require('mmseg', 'mmdysample.DenseDepthHead')

from mmseg.models.decode_heads import VPDDepthHead  # noqa: E402
from mmseg.models.decode_heads.decode_head import BaseDecodeHead  # noqa: E402


@MODELS.register_module()
class DenseDepthHead(BaseDecodeHead):
    """A decoder like DenseDepth's (https://arxiv.org/abs/1812.11941) for depth estimation in mmseg, with a configurable upsampler.

    ::

        stage 4, stride 32 -- 1x1 -- x2 -- concat -- 2 convs -- x2 -- concat -- 2 convs -- x2 -- concat -- 2 convs -- x2 -- 2 convs -- depth
        stage 3, stride 16 ----------------'                           |                           |
        stage 2, stride 8 ---------------------------------------------'                           |
        stage 1, stride 4 -------------------------------------------------------------------------'

    Each step has its own upsampler (``upsample_modules``, coarsest first), with the channels of the coarser map: 768, 384, 192 and 96
    for Swin-T. A guided upsampler also reads the finer map. SAPA-I is refused, because it needs equal channels in both maps. The last
    step has no finer map, so it is bilinear if the upsampler is guided.

    Args:
        in_channels: Channels of the backbone's maps, finest first.
        channels: Channels of the decoder's finest map, from which the depth is computed.
        min_depth: The smallest depth that can be predicted, in metres.
        max_depth: The largest depth that can be predicted, in metres.
        upsample_cfg: The upsampler: a dict with a ``type``, a name or a class, see :func:`~mmdysample.build_upsampler`. If it is absent
            or has no ``type`` (``dict(mode='nearest')``), ``F.interpolate`` with this mode (bilinear by default) resizes to the finer map.
        act_cfg: The activation after each convolution of a step; LeakyReLU as in DenseDepth by default.
        kwargs: As in mmseg's decode heads: ``in_index`` (all maps by default), ``conv_cfg``, ``norm_cfg``, ``align_corners``,
            ``loss_decode`` (``SiLogLoss`` by default), ``init_cfg``.

    Raises:
        ValueError: The upsampler is unknown or does not fit the channels, or ``0 < min_depth < max_depth`` does not hold.
    """

    def __init__(
        self,
        in_channels: list[int],
        channels: int = 48,
        min_depth: float = 1e-3,
        max_depth: float = 10.0,
        upsample_cfg: Optional[UpsampleConfig] = None,
        act_cfg: dict = dict(type='LeakyReLU', negative_slope=0.2),
        loss_decode: Any = dict(type='SiLogLoss'),
        init_cfg: Any = dict(type='Normal', std=0.01, override=dict(name='conv_depth')),
        **kwargs: Any,
    ) -> None:
        if not 0 < min_depth < max_depth:
            raise ValueError(f'the depths must satisfy 0 < min_depth < max_depth, in metres, got {min_depth=}, {max_depth=}')
        super().__init__(
            in_channels,
            channels,
            num_classes=1,
            threshold=0.0,  # only binary segmentation uses it, but mmseg warns if it is None
            dropout_ratio=0.0,
            input_transform='multiple_select',
            act_cfg=act_cfg,
            loss_decode=loss_decode,
            init_cfg=init_cfg,
            **{'in_index': list(range(len(in_channels))), **kwargs},
        )
        self.min_depth, self.max_depth = min_depth, max_depth
        del self.conv_seg
        widths = self.in_channels[::-1]
        layers = {key: getattr(self, key) for key in ('conv_cfg', 'norm_cfg', 'act_cfg')}
        self.bottleneck = nn.Conv2d(widths[0], widths[0], 1)
        self.steps = nn.ModuleList(
            nn.Sequential(
                ConvModule(width + skip, made, 3, padding=1, **layers),
                ConvModule(made, made, 3, padding=1, **layers),
            )
            for width, skip, made in zip(widths, [*widths[1:], 0], [*widths[1:], channels])
        )
        self.conv_depth = nn.Conv2d(channels, 1, 3, padding=1)
        named = named_config(upsample_cfg)
        unnamed = upsample_cfg if isinstance(upsample_cfg, dict) and not named else {}
        self.interpolation = _interpolation(self.align_corners, **unnamed)
        self.upsample_modules = _build_upsamplers(named, widths) if named else ModuleList()

    # mmseg resizes the prediction to the size of the label before it computes the losses.
    _stack_batch_gt = VPDDepthHead._stack_batch_gt
    loss_by_feat = VPDDepthHead.loss_by_feat

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return the depth of every pixel.

        Args:
            inputs: The backbone's maps, ``(B, in_channels[i], H_i, W_i)``, each half the size of the one before it, rounded up or down.

        Returns:
            Depth in metres, ``(B, 1, 2 * H_0, 2 * W_0)``, between ``min_depth`` and ``max_depth``.
        """
        *finer, x = self._transform_inputs(inputs)
        x = self.bottleneck(x)
        for i, step in enumerate(self.steps):
            if finer:
                skip = finer.pop()
                x = torch.cat((self._upsample_as(i, x, skip), skip), dim=1)
            else:
                x = self._double(i, x)
            x = step(x)
        return self.min_depth + (self.max_depth - self.min_depth) * self.conv_depth(x).sigmoid()

    def _upsample_as(self, i: int, x: Tensor, finer: Tensor) -> Tensor:
        if self.upsample_modules:
            return upsample_as(self.upsample_modules[i], x, finer)
        return F.interpolate(x, size=finer.shape[2:], **self.interpolation)

    def _double(self, i: int, x: Tensor) -> Tensor:
        if self.upsample_modules:
            return self.upsample_modules[i](x)
        return F.interpolate(x, scale_factor=2, **self.interpolation)


def _build_upsamplers(named: dict[str, Any], widths: list[int]) -> ModuleList:
    modules = ModuleList()
    for width, skip in pairwise(widths):
        # FADE's gate would add the finer map to its output. It is off, because the head concatenates that map, which has other channels.
        modules.extend(build_steps(named, width, 1, {'gating': False}, guide_channels=skip))
    guided = getattr(resolve(named)[1], 'guided', False)
    modules.append(build_upsampler('bilinear', widths[-1]) if guided else build_steps(named, widths[-1], 1)[0])
    return modules


def _interpolation(align_corners: bool, mode: str = 'bilinear', **others: Any) -> dict[str, Any]:
    if others:
        raise ValueError(f"upsample_cfg without a type may only hold a mode, as in dict(mode='bilinear'), got {', '.join(others)}")
    return dict(mode=mode) if mode == 'nearest' else dict(mode=mode, align_corners=align_corners)
