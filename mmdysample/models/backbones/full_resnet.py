"""A ResNet that returns a feature map at every stride from 1 to 32."""

from typing import Any

from torch import Tensor

from mmdysample.frameworks import require
from mmdysample.registry import MODELS

require('mmseg', 'mmdysample.FullResNet')

from mmseg.models.backbones import ResNet  # noqa: E402


@MODELS.register_module()
class FullResNet(ResNet):
    """mmseg's ResNet with stride 1 in the stem and stride 2 in the first stage.

    ::

        image -- stem, stride 1 -- pool, 2 -- stage 1, 4 -- stage 2, 8 -- stage 3, 16 -- stage 4, 32

    From stride 4 on it costs the same as mmseg's ResNet. The maps of strides 1 and 2 serve as guides of upsamplers that read a finer map.

    Args:
        kwargs: As in mmseg's ResNet, except ``strides``, ``out_indices``, ``num_stages`` and ``deep_stem``, which are fixed.

    Raises:
        ValueError: One of the fixed arguments is given.
    """

    def __init__(self, **kwargs: Any) -> None:
        fixed = [name for name in ('strides', 'out_indices', 'num_stages', 'deep_stem') if name in kwargs]
        if fixed:
            raise ValueError(
                f'FullResNet has a plain stem and four stages, each of stride 2, and returns every map: leave out {", ".join(fixed)}'
            )
        super().__init__(strides=(2, 2, 2, 2), **kwargs)
        self.conv1.stride = (1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the feature maps of an image.

        Args:
            x: ``(B, in_channels, H, W)``.

        Returns:
            Maps of strides 1, 2, 4, 8, 16 and 32, finest first; each is half as large as the one before it, rounded up.
        """
        maps = [self.relu(self.norm1(self.conv1(x)))]
        maps.append(self.maxpool(maps[0]))
        for name in self.res_layers:
            maps.append(getattr(self, name)(maps[-1]))
        return tuple(maps)
