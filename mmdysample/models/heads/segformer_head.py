"""SegFormer's decode head with a configurable upsampler."""

from typing import Any

import torch
from mmengine.model import ModuleList
from torch import Tensor

from mmdysample.frameworks import require
from mmdysample.registry import MODELS
from mmdysample.upsamplers.builder import named_config
from mmdysample.upsamplers.fit import build_steps, upsample_as, upsample_both

require('mmseg', 'mmdysample.SegformerHead')

from mmseg.models.decode_heads import SegformerHead as StockSegformerHead  # noqa: E402


@MODELS.register_module()
class SegformerHead(StockSegformerHead):
    """mmseg's SegFormer head, in which upsamplers bring each stage to the size of the finest one in steps of x2.

    ::

        stage 4 -- embed -- x2 -- x2 -- x2 --.
        stage 3 -- embed ------- x2 -- x2 --- concat -- fuse -- classify
        stage 2 -- embed ------------- x2 --'|
        stage 1 -- embed --------------------'

    Each of the six steps has its own upsampler (``upsample_modules``: three for stage 4, two for stage 3, one for stage 2). A guided
    upsampler also reads the embedded map of the next finer stage. FreqFusion also enhances that map: a stage goes on as the first step of
    the next coarser stage has enhanced it.

    Args:
        upsample_cfg: The upsampler: a dict with a ``type``, a name or a class, see :func:`~mmdysample.build_upsampler`. If it is absent
            or has no ``type`` (``dict(mode='bilinear')``, the same as ``interpolate_mode``), the output is identical to mmseg's head.
        kwargs: As in mmseg's head.

    Raises:
        ValueError: The upsampler is unknown or does not fit ``channels``.
    """

    def __init__(self, upsample_cfg: Any = None, **kwargs: Any) -> None:
        named = named_config(upsample_cfg)
        if upsample_cfg and not named:
            kwargs['interpolate_mode'] = _mode_alone(**upsample_cfg)
            if kwargs['interpolate_mode'] == 'nearest':
                kwargs['align_corners'] = None  # F.interpolate accepts no other value with this mode
        super().__init__(**kwargs)
        steps = len(self.convs) * (len(self.convs) - 1) // 2
        self.upsample_modules = build_steps(named, self.channels, steps) if named else ModuleList()

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return the logits.

        Args:
            inputs: The backbone's maps, ``(B, in_channels[i], H_i, W_i)``, each half the size of the one before it, rounded up or down.

        Returns:
            Logits ``(B, num_classes, H_0, W_0)``.
        """
        if not self.upsample_modules:
            return super().forward(inputs)
        stages = [embed(x) for embed, x in zip(self.convs, self._transform_inputs(inputs))]
        upsamplers = iter(self.upsample_modules)
        fused = list(stages)
        for i in reversed(range(len(stages))):
            x = fused[i]
            for j in reversed(range(i)):
                if j == i - 1:
                    x, fused[j] = upsample_both(next(upsamplers), x, stages[j])
                else:
                    x = upsample_as(next(upsamplers), x, stages[j])
            fused[i] = x
        return self.cls_seg(self.fusion_conv(torch.cat(fused, dim=1)))


def _mode_alone(mode: str = 'bilinear', **others: Any) -> str:
    if others:
        raise ValueError(f"upsample_cfg without a type may only hold a mode, as in dict(mode='bilinear'), got {', '.join(others)}")
    return mode
