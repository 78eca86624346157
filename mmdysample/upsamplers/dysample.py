"""DySample as a module: `Learning to Upsample by Learning to Sample <https://arxiv.org/abs/2308.15085>`_, ICCV 2023.

The four variants of the paper are names in the registry: ``DySample`` and ``DySample+`` predict offsets at the input's resolution
("linear, then pixel shuffle", LP), ``DySample-S`` and ``DySample-S+`` at the output's (PL, 8 times fewer weights); the ``+`` has a scope
that depends on the content.
"""

from functools import partialmethod
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmdysample.functional import dysample, initial_position


@MODELS.register_module()
class DySample(BaseModule):
    """Upsample ``(B, C, H, W)`` to ``(B, C, s*H, s*W)`` by sampling it at learned points.

    A new module is bilinear interpolation: its offsets start near zero.

    Args:
        in_channels: Channels ``C`` of the map.
        scale_factor: Integer ratio ``s``, at least 1.
        style: ``'lp'`` predicts the offsets of the ``s*s`` points of a pixel from all its ``C`` channels. ``'pl'`` shuffles the
            channels into the points first and predicts the offsets of each from its own ``C / (s*s)``.
        groups: Groups of channels with offsets of their own. The paper takes 4 with LP and 8 with PL.
        dyscope: How far a point may go is ``0.25`` pixels per unit of offset (static scope); with ``dyscope``, it is
            ``0.5 * sigmoid(scope(x))`` (dynamic scope).
        init_cfg: mmengine's initialisation, in place of the paper's (offset weights N(0, 0.001), all else zero).

    Raises:
        ValueError: An argument is out of its range, or ``in_channels`` is not divisible by ``groups`` or, for PL, by ``s*s``.
    """

    guided = False
    init_pos: Tensor

    def __init__(
        self,
        in_channels: int,
        scale_factor: int = 2,
        style: str = 'lp',
        groups: int = 4,
        dyscope: bool = False,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        _check_arguments(in_channels, scale_factor, style, groups)
        self.in_channels = in_channels
        self.scale_factor = scale_factor
        self.style = style
        self.groups = groups

        points = scale_factor**2
        # PL is the same 1x1 convolution for each of the s*s points, on that point's share of the channels.
        conv = (in_channels, 2 * groups * points) if style == 'lp' else (in_channels // points, 2 * groups)
        self.offset = nn.Conv2d(*conv, kernel_size=1)
        self.scope = nn.Conv2d(*conv, kernel_size=1, bias=False) if dyscope else None
        self.register_buffer('init_pos', initial_position(scale_factor, groups))
        self.reset_parameters()

    @property
    def dyscope(self) -> bool:
        """Whether the scope depends on the content."""
        return self.scope is not None

    def reset_parameters(self) -> None:
        """Initialise as the paper does: bilinear interpolation, up to N(0, 0.001) in the offset weights."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        nn.init.normal_(self.offset.weight, std=0.001)

    def init_weights(self) -> None:
        """Initialise when mmengine initialises the model.

        A neck's Xavier reaches every convolution below it; mmengine then calls this, which takes the offsets back.
        """
        self.reset_parameters()
        if self.init_cfg:
            super().init_weights()

    def forward(self, x: Tensor) -> Tensor:
        """Upsample.

        Args:
            x: ``(B, C, H, W)``.

        Returns:
            ``(B, C, s*H, s*W)``, of the dtype of ``x``.

        Raises:
            ValueError: ``x`` has another number of dimensions or channels.
        """
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f'expected a map (B, {self.in_channels}, H, W), got the shape {tuple(x.shape)}')
        return dysample(x, self.predict_offset(x), self.scale_factor, self.groups)

    def predict_offset(self, x: Tensor) -> Tensor:
        """Where to sample.

        Args:
            x: ``(B, C, H, W)``.

        Returns:
            ``(B, 2*g*s*s, H, W)``: the distance of every sampling point from the centre of its input pixel, in input pixels, float32
            or wider, the channels ordered as (x | y, group, row, column).
        """
        # Positions add up in float32: in float16 or bfloat16 even the initial position of scale 3 is inexact.
        dtype = torch.promote_types(x.dtype, torch.float32)
        position = self.init_pos.to(dtype)
        offset = self._linear(self.offset, x).to(dtype)
        if self.scope is None:
            return torch.add(position, offset, alpha=0.25)
        return torch.addcmul(position, offset, self._linear(self.scope, x).to(dtype).sigmoid(), value=0.5)

    def _linear(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        if self.style == 'lp':
            return conv(x)
        # Pixel shuffle, 1x1 convolution and pixel unshuffle are one convolution over the s*s points stacked as rows: no copy of x.
        batch, channels, height, width = x.shape
        points = self.scale_factor**2
        out = conv(x.reshape(batch, channels // points, points * height, width))
        return out.reshape(batch, 2 * self.groups * points, height, width)

    def _apply(self, fn: Any, recurse: bool = True) -> 'DySample':
        # `.half()` and `.bfloat16()` leave the positions in float32: the thirds of scale 3 are inexact below.
        position = self.init_pos
        super()._apply(fn, recurse)
        if self.init_pos.dtype in (torch.float16, torch.bfloat16):
            self.init_pos = position.to(self.init_pos.device)
        return self

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any) -> None:
        # The authors' files of before 2024-03-27 carry a bias of the scope; later ones, and new modules, have none.
        if self.scope is not None:
            bias = state_dict.get(f'{prefix}scope.bias')
            has_bias = self.scope.bias is not None
            if bias is not None and not has_bias:
                # A constant: by the time that mmengine loads, optimizer and DDP have taken their parameters.
                self.scope.bias = nn.Parameter(torch.zeros_like(bias).to(self.scope.weight), requires_grad=False)
            elif bias is None and has_bias and f'{prefix}scope.weight' in state_dict:
                self.scope.bias = None
        if f'{prefix}offset.weight' in state_dict:
            state_dict.setdefault(f'{prefix}init_pos', self.init_pos)  # what is always the same may be left out
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        return f'{self.in_channels}, scale_factor={self.scale_factor}, style={self.style!r}, groups={self.groups}, dyscope={self.dyscope}'


@MODELS.register_module('DySample+')
class DySamplePlus(DySample):
    """:class:`DySample` with dynamic scope; arguments after ``scale_factor`` by keyword."""

    __init__ = partialmethod(DySample.__init__, dyscope=True)


@MODELS.register_module('DySample-S')
class DySampleS(DySample):
    """:class:`DySample` with offsets predicted at the output's resolution; arguments after ``scale_factor`` by keyword."""

    __init__ = partialmethod(DySample.__init__, style='pl', groups=8)


@MODELS.register_module('DySample-S+')
class DySampleSPlus(DySample):
    """:class:`DySampleS` with dynamic scope; arguments after ``scale_factor`` by keyword."""

    __init__ = partialmethod(DySample.__init__, style='pl', groups=8, dyscope=True)


def _check_arguments(in_channels: int, scale_factor: int, style: str, groups: int) -> None:
    for name, value in (('in_channels', in_channels), ('scale_factor', scale_factor), ('groups', groups)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f'{name} must be a positive integer, got {value!r}')
    if style not in ('lp', 'pl'):
        raise ValueError(f"style must be 'lp' or 'pl', got {style!r}")
    if in_channels % groups:
        raise ValueError(f'in_channels must be divisible by groups, got {in_channels=}, {groups=}')
    if style == 'pl' and in_channels % scale_factor**2:
        raise ValueError(f"in_channels must be divisible by scale_factor**2 for style 'pl', got {in_channels=}, {scale_factor=}")
