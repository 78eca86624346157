"""DySample as a module: `Learning to Upsample by Learning to Sample <https://arxiv.org/abs/2308.15085>`_, ICCV 2023.

The four variants of the paper are names in the registry: ``DySample`` and ``DySample+`` predict offsets at the input's resolution
("linear, then pixel shuffle", LP), ``DySample-S`` and ``DySample-S+`` at the output's (PL, 8 times fewer weights); the ``+`` has a scope
that depends on the content.
"""

from functools import partialmethod
from typing import Any, Optional

import torch
from torch import Tensor, nn

from mmdysample.functional import choose_path, dysample, initial_position, sample, sampling_offset
from mmdysample.functional.capture import captured
from mmdysample.functional.learned import LearnedSampling, pointwise
from mmdysample.functional.paths import PATHS

from .base import Upsampler, check_bool, check_positive
from .registration import register_upsampler


@register_upsampler()
class DySample(Upsampler):
    """Upsample ``(B, C, H, W)`` to ``(B, C, s*H, s*W)`` by sampling it at learned points.

    A new module is bilinear interpolation: its offsets start near zero. The paper's design, step by step, is ``init_position='nearest',
    scope_factor=1.0, groups=1``; then ``init_position='bilinear'``; then ``scope_factor=0.25``; then ``groups=4``, which is the default;
    then ``dyscope=True``.

    Args:
        in_channels: Channels ``C`` of the map.
        scale_factor: Integer ratio ``s``, at least 1.
        style: ``'lp'`` predicts the offsets of the ``s*s`` points of a pixel from all its ``C`` channels. ``'pl'`` shuffles the
            channels into the points first and predicts the offsets of each from its own ``C / (s*s)``.
        groups: Groups of channels with offsets of their own. The paper takes 4 with LP and 8 with PL.
        dyscope: A point goes ``scope_factor`` pixels per unit of offset (static scope); with ``dyscope``, it is
            ``2 * scope_factor * sigmoid(scope(x))`` pixels (dynamic scope), the same before training.
        scope_factor: The paper's is 0.25; 1.0 is its naive design.
        init_position: Where the points are before training: ``'bilinear'`` puts each where its output pixel lies, so that the module
            is bilinear interpolation; ``'nearest'`` puts all in the centre of the input pixel, the paper's naive design.
        path: How to compute it: ``'plain'``, ``'lean'`` or ``'fused'``; by default what suits map and device
            (:func:`~mmdysample.functional.choose_path`). All give the same numbers, up to rounding.
        init_cfg: mmengine's initialisation, in place of the paper's (offset weights N(0, 0.001), all else zero).

    Raises:
        ValueError: An argument is out of its range, or ``in_channels`` is not divisible by ``groups`` or, for PL, by ``s*s``.
    """

    init_pos: Tensor
    # Class default, so that modules pickled before this attribute existed still load.
    path: Optional[str] = None

    def __init__(
        self,
        in_channels: int,
        scale_factor: int = 2,
        style: str = 'lp',
        groups: int = 4,
        dyscope: bool = False,
        scope_factor: float = 0.25,
        init_position: str = 'bilinear',
        path: Optional[str] = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(in_channels, scale_factor, init_cfg)
        check_positive(groups=groups)
        check_bool(dyscope=dyscope)
        if style not in ('lp', 'pl'):
            raise ValueError(f"style must be 'lp' or 'pl', got {style!r}")
        if init_position not in ('bilinear', 'nearest'):
            raise ValueError(f"init_position must be 'bilinear' or 'nearest', got {init_position!r}")
        if path is not None and path not in PATHS:
            raise ValueError(f'path must be one of {", ".join(PATHS)}, or None, got {path!r}')
        if isinstance(scope_factor, bool) or not isinstance(scope_factor, (int, float)) or not 0 < scope_factor < float('inf'):
            raise ValueError(f'scope_factor must be a positive number, got {scope_factor!r}')
        if in_channels % groups:
            raise ValueError(f'in_channels must be divisible by groups, got {in_channels=}, {groups=}')
        if style == 'pl' and in_channels % scale_factor**2:
            raise ValueError(f"in_channels must be divisible by scale_factor**2 for style 'pl', got {in_channels=}, {scale_factor=}")
        self.style = style
        self.groups = groups
        self.scope_factor = float(scope_factor)
        self.init_position = init_position
        self.path = path

        points = scale_factor**2
        # PL is the same 1x1 convolution for each of the s*s points, on that point's share of the channels.
        conv = (in_channels, 2 * groups * points) if style == 'lp' else (in_channels // points, 2 * groups)
        self.offset = nn.Conv2d(*conv, kernel_size=1)
        self.scope = nn.Conv2d(*conv, kernel_size=1, bias=False) if dyscope else None
        position = initial_position(scale_factor, groups)
        self.register_buffer('init_pos', position if init_position == 'bilinear' else torch.zeros_like(position))
        self.reset_parameters()

    @property
    def dyscope(self) -> bool:
        """Whether the scope depends on the content."""
        return self.scope is not None

    def reset_parameters(self) -> None:
        """Initialise as the paper does: no offset, up to N(0, 0.001) in the weights."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        nn.init.normal_(self.offset.weight, std=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Upsample.

        Args:
            x: ``(B, C, H, W)``.

        Returns:
            ``(B, C, s*H, s*W)``, of the dtype of ``x``.

        Raises:
            ValueError: ``x`` has another number of dimensions or channels.
        """
        self.check_map(x)
        needs_grad = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *self.parameters()))
        path = choose_path(x, scale_factor=self.scale_factor, training=needs_grad, path=self.path)
        if path == 'plain' or self._overrides_offset:
            return dysample(x, self.predict_offset(x), self.scale_factor, self.groups)
        options = (self.init_pos, self.scope_factor, self.scale_factor, self.groups, path == 'fused')
        if needs_grad and self._has_bare_layers and not captured():
            return LearnedSampling.apply(x, *_weights(self.offset), *_weights(self.scope), *options)
        return sample(x, *self._predict(x), *options)

    @property
    def _overrides_offset(self) -> bool:
        """Whether a subclass overrides :meth:`predict_offset`, which must then be called."""
        return type(self).predict_offset is not DySample.predict_offset

    @property
    def _has_bare_layers(self) -> bool:
        """Whether the layers' weights may be used without calling the layers."""
        return _is_bare(self.offset) and (self.scope is None or _is_bare(self.scope))

    def predict_offset(self, x: Tensor) -> Tensor:
        """Where to sample.

        Args:
            x: ``(B, C, H, W)``.

        Returns:
            ``(B, 2*g*s*s, H, W)``: the distance of every sampling point from the centre of its input pixel, in input pixels, float32
            or wider, the channels ordered as (x | y, group, row, column).
        """
        offset, scope = self._predict(x)
        return sampling_offset(offset, scope, self.init_pos, self.scope_factor)

    def predict_scope(self, x: Tensor) -> Tensor:
        """How far a point goes per unit of offset.

        Args:
            x: ``(B, C, H, W)``.

        Returns:
            ``(B, 2*g*s*s, H, W)``, in input pixels, the channels ordered as in :meth:`predict_offset`; one number, if the scope is static.
        """
        dtype = torch.promote_types(x.dtype, torch.float32)
        if self.scope is None:
            return torch.full((), self.scope_factor, dtype=dtype, device=x.device).expand(x.shape[0], self.init_pos.shape[1], *x.shape[2:])
        return 2 * self.scope_factor * self._linear(self.scope, x).to(dtype).sigmoid()

    def _predict(self, x: Tensor) -> tuple[Tensor, Optional[Tensor]]:
        """What the layers say of a map: raw offset and, if it is dynamic, raw scope, both ``(B, 2*g*s*s, H, W)``."""
        return self._linear(self.offset, x), None if self.scope is None else self._linear(self.scope, x)

    def _linear(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        return pointwise(x, self.in_channels if self.style == 'lp' else self.in_channels // self.scale_factor**2, conv)

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
        """Name what matters in ``repr``."""
        design = ''
        if (self.scope_factor, self.init_position) != (0.25, 'bilinear'):
            design = f', scope_factor={self.scope_factor}, init_position={self.init_position!r}'
        return f'{super().extra_repr()}, style={self.style!r}, groups={self.groups}, dyscope={self.dyscope}{design}'


def _is_bare(conv: nn.Module) -> bool:
    """Return True for an unmodified ``nn.Conv2d`` without hooks: only then may its weights be used directly."""
    hooks = (conv._forward_hooks, conv._forward_pre_hooks, conv._backward_hooks, conv._backward_pre_hooks)
    return type(conv) is nn.Conv2d and 'forward' not in conv.__dict__ and not any(hooks)


def _weights(conv: Optional[nn.Conv2d]) -> tuple[Optional[Tensor], Optional[Tensor]]:
    return (None, None) if conv is None else (conv.weight, conv.bias)


@register_upsampler('DySample+')
class DySamplePlus(DySample):
    """:class:`DySample` with dynamic scope; arguments after ``scale_factor`` by keyword."""

    __init__ = partialmethod(DySample.__init__, dyscope=True)


@register_upsampler('DySample-S')
class DySampleS(DySample):
    """:class:`DySample` with offsets predicted at the output's resolution; arguments after ``scale_factor`` by keyword."""

    __init__ = partialmethod(DySample.__init__, style='pl', groups=8)


@register_upsampler('DySample-S+')
class DySampleSPlus(DySample):
    """:class:`DySampleS` with dynamic scope; arguments after ``scale_factor`` by keyword."""

    __init__ = partialmethod(DySample.__init__, style='pl', groups=8, dyscope=True)
