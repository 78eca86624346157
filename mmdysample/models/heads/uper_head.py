"""UPerNet's decode head with a configurable upsampler."""

from typing import Any, Optional

import torch
from mmengine.model import ModuleList
from torch import Tensor

from mmdysample.frameworks import require
from mmdysample.registry import MODELS
from mmdysample.upsamplers.builder import UpsampleConfig, named_config_or
from mmdysample.upsamplers.fit import build_steps, upsample_both

require('mmseg', 'mmdysample.UPerHead')

from mmseg.models.decode_heads import UPerHead as StockUPerHead  # noqa: E402
from mmseg.models.utils import resize  # noqa: E402


@MODELS.register_module()
class UPerHead(StockUPerHead):
    """mmseg's UPerNet head with a configurable upsampler in its top-down path.

    ::

        stage 4 -- pyramid pooling -- o ---------- resize --.
                                      | upsampler 2         |
        stage 3 -- lateral 2 -------- + -- conv 2 -- resize -|
                                      | upsampler 1          concat -- fuse -- classify
        stage 2 -- lateral 1 -------- + -- conv 1 -- resize -|
                                      | upsampler 0         |
        stage 1 -- lateral 0 -------- + -- conv 0 ----------'

    Each step has its own upsampler. A guided upsampler also reads the finer lateral. :func:`~mmdysample.upsamplers.fit.upsample_to` says
    what happens where the finer map has an odd size. The maps are then resized bilinearly to the finest one, by up to x8, as in mmseg.
    Upsamplers are used only in the three top-down steps, because the parameters that `the published comparison
    <https://github.com/tiny-smart/sapa>`_ lists for UPerNet (deconvolution +7.1M, pixel shuffle +28.3M) are those of three upsamplers.

    Args:
        upsample_cfg: The upsampler: a dict with a ``type``, a name or a class, see :func:`~mmdysample.build_upsampler`. If it is absent
            or ``dict(mode='bilinear')``, the output is identical to mmseg's head.
        kwargs: As in mmseg's head: ``pool_scales``, ``in_channels``, ``channels``, ``num_classes``, ``align_corners`` (for the bilinear
            resizing that remains), ...

    Raises:
        ValueError: The upsampler is unknown or does not fit ``channels``.
    """

    def __init__(self, upsample_cfg: Optional[UpsampleConfig] = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        named = named_config_or('bilinear', upsample_cfg)
        # FADE's gate would add the lateral to its output. It is off, because the head adds the lateral itself.
        self.upsample_modules = build_steps(named, self.channels, len(self.lateral_convs), {'gating': False}) if named else ModuleList()

    def _forward_feature(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return the feature map that is classified; mmseg's ``forward`` calls this.

        Args:
            inputs: The backbone's maps, ``(B, in_channels[i], H_i, W_i)``, each half the size of the one before it, rounded up or down.

        Returns:
            ``(B, channels, H_0, W_0)``.
        """
        if not self.upsample_modules:
            return super()._forward_feature(inputs)
        stages = self._transform_inputs(inputs)
        x = self.psp_forward(stages)
        levels = [x]
        for i in reversed(range(len(self.upsample_modules))):
            x, lateral = upsample_both(self.upsample_modules[i], x, self.lateral_convs[i](stages[i]))
            x = lateral + x
            levels.insert(0, self.fpn_convs[i](x))
        size = levels[0].shape[2:]
        resized = [resize(level, size=size, mode='bilinear', align_corners=self.align_corners) for level in levels[1:]]
        return self.fpn_bottleneck(torch.cat([levels[0], *resized], dim=1))
