"""A segmentation head that reads only the two coarsest maps, so that all detail in its output comes from the upsampler."""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdysample.frameworks import require
from mmdysample.registry import MODELS
from mmdysample.upsamplers.builder import UpsampleConfig, resolve
from mmdysample.upsamplers.fit import build_steps, upsample_as

require('mmseg', 'mmdysample.CoarseHead')

from mmseg.models.decode_heads.decode_head import BaseDecodeHead  # noqa: E402


@MODELS.register_module()
class CoarseHead(BaseDecodeHead):
    """A head that reads strides 16 and 32 and upsamples to full resolution in steps of x2.

    ::

        stride 32 -- embed -- x2 --.
        stride 16 -- embed ------- concat -- fuse -- x2 -- x2 -- x2 -- x2 -- classify

    No finer map is added on the way, and only upsamplers stand between the fused map and the classifier. How well edges and thin parts
    are segmented therefore depends on the upsampler alone, which starts from a map 16 times as coarse as the output. Each step has its
    own upsampler. A guided upsampler (one that also reads a finer map) gets the backbone's map at its output stride, after a 1x1
    convolution; other upsamplers see no finer map.

    Args:
        upsample_cfg: The upsampler, see :func:`~mmdysample.build_upsampler`; bilinear interpolation by default.
        in_channels: Channels of all maps from stride 1 to stride 32, finest first.
        in_index: The indices of these maps among the backbone's outputs.
        kwargs: As in mmseg's heads.

    Raises:
        ValueError: The upsampler is unknown or does not fit ``channels``, or ``in_channels`` and ``in_index`` do not list the same maps.
    """

    def __init__(
        self, upsample_cfg: UpsampleConfig = 'bilinear', *, in_channels: Sequence[int], in_index: Sequence[int], **kwargs: Any
    ) -> None:
        if not all(isinstance(each, (list, tuple)) for each in (in_channels, in_index)) or not 2 <= len(in_channels) == len(in_index):
            raise ValueError(
                f'in_channels and in_index must list the same maps, at least two, finest first, got in_channels={in_channels} and '
                f'in_index={in_index}'
            )
        super().__init__(in_channels=in_channels, in_index=in_index, input_transform='multiple_select', **kwargs)
        layers: dict[str, Any] = {key: getattr(self, key) for key in ('conv_cfg', 'norm_cfg', 'act_cfg')}
        self.upsample_modules = build_steps(resolve(upsample_cfg)[0], self.channels, len(self.in_channels) - 1)
        self.embeddings = nn.ModuleList(ConvModule(width, self.channels, 1, **layers) for width in self.in_channels[-2:])
        self.fusion = ConvModule(2 * self.channels, self.channels, 1, **layers)
        guided = getattr(self.upsample_modules[0], 'guided', False)
        made = getattr(self.upsample_modules[0], 'guide_channels', self.channels)
        self.guides = nn.ModuleList(ConvModule(width, made, 1, **layers) for width in self.in_channels[:-1] if guided)

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return the logits of every pixel.

        Args:
            inputs: The backbone's maps, ``(B, in_channels[i], H_i, W_i)``, each half the size of the one before it, rounded up or down.

        Returns:
            Logits, ``(B, num_classes, H_0, W_0)``.

        Raises:
            ValueError: The maps do not have the channels of ``in_channels``.
            ShapeError: A map is not half the size of the one before it.
        """
        widths = [x.shape[1] for x in inputs]
        if [widths[i] for i in self.in_index if i < len(widths)] != list(self.in_channels):
            raise ValueError(
                f'in_channels={list(self.in_channels)} with in_index={list(self.in_index)} does not fit the backbone, whose maps have '
                f'{widths} channels'
            )
        *finer, coarse = self._transform_inputs(inputs)
        fine, x = (embed(y) for embed, y in zip(self.embeddings, (finer[-1], coarse)))
        guides = [guide(y) for guide, y in zip(self.guides, finer)] or finer
        *upsamplers, first = self.upsample_modules
        x = self.fusion(torch.cat((fine, upsample_as(first, x, guides[-1])), dim=1))
        for upsampler, guide in zip(reversed(upsamplers), reversed(guides[:-1])):
            x = upsample_as(upsampler, x, guide)
        return self.cls_seg(x)
