"""CSP layers of RepVGG blocks, which RT-DETR fuses its levels with. mmcv and mmdet have neither."""

from typing import Any

from mmcv.cnn import ConvModule, build_activation_layer
from mmengine.model import BaseModule
from torch import Tensor, nn


class RepVGGBlock(BaseModule):
    """A 3x3 and a 1x1 convolution side by side: Ding et al., *RepVGG*, CVPR 2021, without the identity branch.

    Args:
        channels: Channels ``C`` of the map.
        norm_cfg: The normalisation after each convolution.
        act_cfg: The activation of the sum.
    """

    def __init__(self, channels: int, norm_cfg: dict[str, Any], act_cfg: dict[str, Any]) -> None:
        super().__init__()
        self.conv1 = ConvModule(channels, channels, 3, padding=1, norm_cfg=norm_cfg, act_cfg=None)
        self.conv2 = ConvModule(channels, channels, 1, norm_cfg=norm_cfg, act_cfg=None)
        self.activation = build_activation_layer(act_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """From ``(B, C, H, W)`` to the same shape."""
        return self.activation(self.conv1(x) + self.conv2(x))


class CSPRepLayer(BaseModule):
    """Two 1x1 convolutions of the same map, RepVGG blocks after one of them, and their sum.

    mmdet's ``CSPLayer`` concatenates the two branches in place of adding them.

    Args:
        in_channels: Channels of the map.
        out_channels: Channels of the result.
        expansion: The branches have ``int(expansion * out_channels)`` channels; another 1x1 convolution follows where that is not
            ``out_channels``.
        num_blocks: Number of RepVGG blocks.
        norm_cfg: The normalisation after each convolution.
        act_cfg: The activation.
    """

    def __init__(
        self, in_channels: int, out_channels: int, expansion: float, num_blocks: int, norm_cfg: dict[str, Any], act_cfg: dict[str, Any]
    ) -> None:
        super().__init__()
        hidden = int(out_channels * expansion)
        layers = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.conv1 = ConvModule(in_channels, hidden, 1, **layers)
        self.conv2 = ConvModule(in_channels, hidden, 1, **layers)
        self.bottlenecks = nn.Sequential(*(RepVGGBlock(hidden, **layers) for _ in range(num_blocks)))
        self.conv3 = nn.Identity() if hidden == out_channels else ConvModule(hidden, out_channels, 1, **layers)

    def forward(self, x: Tensor) -> Tensor:
        """From ``(B, in_channels, H, W)`` to ``(B, out_channels, H, W)``."""
        return self.conv3(self.bottlenecks(self.conv1(x)) + self.conv2(x))
