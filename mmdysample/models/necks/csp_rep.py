"""RepVGG blocks and the CSP layers of them that fuse the levels in RT-DETR. mmcv and mmdet have neither."""

from typing import Any

from mmcv.cnn import ConvModule, build_activation_layer
from mmengine.model import BaseModule
from torch import Tensor, nn


class RepVGGBlock(BaseModule):
    """The sum of a 3x3 and a 1x1 convolution: Ding et al., *RepVGG*, CVPR 2021, without the identity branch.

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
        """Return the activated sum for ``x`` of shape ``(B, C, H, W)``, in the same shape."""
        return self.activation(self.conv1(x) + self.conv2(x))


class CSPRepLayer(BaseModule):
    """The sum of two branches of one map: a 1x1 convolution followed by RepVGG blocks, and another 1x1 convolution.

    mmdet's ``CSPLayer`` concatenates the two branches instead of adding them.

    Args:
        in_channels: Channels of the map.
        out_channels: Channels of the result.
        expansion: The branches have ``int(expansion * out_channels)`` channels. If that is not ``out_channels``, another 1x1 convolution
            follows the sum.
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
        """Return ``(B, out_channels, H, W)`` for ``x`` of shape ``(B, in_channels, H, W)``."""
        return self.conv3(self.bottlenecks(self.conv1(x)) + self.conv2(x))
