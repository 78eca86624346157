"""DySample as a module: `Learning to Upsample by Learning to Sample <https://arxiv.org/abs/2308.15085>`_, ICCV 2023.

The registry has a name for each of the paper's four variants. ``DySample`` and ``DySample+`` predict offsets at the input's resolution and
then pixel-shuffle them (LP, "linear + pixel shuffle"). ``DySample-S`` and ``DySample-S+`` pixel-shuffle the map and predict offsets at the
output's resolution (PL), which takes 8 times fewer weights at x2. In the variants with ``+``, the scope of the offsets depends on the
content (dynamic scope).
"""

from collections.abc import Callable
from functools import partialmethod
from typing import Any, Optional

import torch
from torch import Tensor, nn

from mmdysample.functional import choose_path, dysample, sample, sampling_offset
from mmdysample.functional.capture import captured
from mmdysample.functional.learned import LearnedSampling, pointwise
from mmdysample.functional.paths import PATHS

from .base import check_bool, check_positive, check_positive_number
from .dysample_state import DySampleState
from .registration import register_upsampler


@register_upsampler()
class DySample(DySampleState):
    """Upsample ``(B, C, H, W)`` to ``(B, C, s*H, s*W)`` by sampling it at learned points.

    A new module is close to bilinear interpolation, because its offsets start near zero. The paper develops the design in steps, which are
    ``init_position='nearest', scope_factor=1.0, groups=1``; then ``init_position='bilinear'``; then ``scope_factor=0.25``; then
    ``groups=4``, which is the default; then ``dyscope=True``.

    Args:
        in_channels: Channels ``C`` of the map.
        scale_factor: Integer ratio ``s``, at least 1.
        style: ``'lp'`` predicts the offsets of the ``s*s`` output pixels of an input pixel from all its ``C`` channels. ``'pl'`` first
            pixel-shuffles the map and predicts the offset of each output pixel from its ``C / (s*s)`` channels.
        groups: Number of groups ``g`` of channels; each group has its own offsets. The paper uses 4 with LP and 8 with PL.
        dyscope: Whether the scope, the distance in pixels that a point moves per unit of offset, is dynamic. A static scope is
            ``scope_factor``; a dynamic scope is ``2 * scope_factor * sigmoid(scope(x))``, which also starts at ``scope_factor``.
        scope_factor: The scope before training, in input pixels. The paper uses 0.25, and 1.0 in its naive design.
        init_position: The sampling points for zero offsets. ``'bilinear'`` puts each point at the position of its output pixel, which makes
            the module bilinear interpolation. ``'nearest'`` puts all points at the centre of the input pixel, as in the paper's naive
            design.
        path: The implementation: ``'plain'``, ``'lean'`` or ``'fused'``, which are described in :mod:`mmdysample.functional.paths`. By
            default, :func:`~mmdysample.functional.choose_path` chooses one for each map. All give the same output up to rounding.
        init_cfg: mmengine's initialisation, which overrides the paper's: offset weights from a normal distribution with a standard
            deviation of 0.001, and zeros for all other parameters.
        device: The device of the parameters.
        dtype: The dtype of the parameters.

    Raises:
        ValueError: An argument has an invalid value, or ``in_channels`` is not divisible by ``groups`` or, for PL, by ``s*s``.
    """

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
        device: Any = None,
        dtype: Optional[torch.dtype] = None,
    ) -> None:
        super().__init__(in_channels, scale_factor, init_cfg)
        in_channels, scale_factor = self.in_channels, self.scale_factor
        (groups,) = check_positive(groups=groups)
        check_bool(dyscope=dyscope)
        if style not in ('lp', 'pl'):
            raise ValueError(f"style must be 'lp' or 'pl', got {style!r}")
        if init_position not in ('bilinear', 'nearest'):
            raise ValueError(f"init_position must be 'bilinear' or 'nearest', got {init_position!r}")
        if path is not None and path not in PATHS:
            raise ValueError(f'path must be one of {", ".join(PATHS)}, or None, got {path!r}')
        check_positive_number(scope_factor=scope_factor)
        if in_channels % groups:
            fitting = ', '.join(str(n) for n in range(1, in_channels + 1) if in_channels % n == 0)
            raise ValueError(f'in_channels must be divisible by groups, got {in_channels=}, {groups=}: groups may be one of {fitting}')
        if style == 'pl' and in_channels % scale_factor**2:
            raise ValueError(f"in_channels must be divisible by scale_factor**2 for style 'pl', got {in_channels=}, {scale_factor=}")
        self.style = style
        self.groups = groups
        self.scope_factor = float(scope_factor)
        self.init_position = init_position
        self.path = path

        points = scale_factor**2
        # PL applies one 1x1 convolution to each of the s*s parts into which pixel shuffle splits the channels.
        conv = (in_channels, 2 * groups * points) if style == 'lp' else (in_channels // points, 2 * groups)
        factory: dict[str, Any] = {'device': device, 'dtype': dtype}
        self.offset = nn.Conv2d(*conv, kernel_size=1, **factory)
        self.scope = nn.Conv2d(*conv, kernel_size=1, bias=False, **factory) if dyscope else None
        # A bias of older checkpoints, see DySampleState.
        self.register_buffer('scope_bias', self.offset.weight.new_zeros(conv[1]) if dyscope else None, persistent=False)
        self.register_buffer('init_pos', self._position(self.offset.weight.device, self.offset.weight.dtype))
        self.reset_parameters()

    @property
    def dyscope(self) -> bool:
        """Whether the scope depends on the content."""
        return self.scope is not None

    def reset_parameters(self) -> None:
        """Initialise as the paper does: offset weights with a standard deviation of 0.001, and zeros for all other parameters."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        nn.init.normal_(self.offset.weight, std=0.001)
        # Buffers, which are uninitialised after ``to_empty``.
        self.init_pos.copy_(self._position(self.init_pos.device, self.init_pos.dtype))
        if self.scope_bias is not None:
            nn.init.zeros_(self.scope_bias)

    def upsample(self, x: Tensor) -> Tensor:
        """Upsample a map; see :meth:`Upsampler.forward` for the shapes.

        Raises:
            ValueError: The path ``'fused'`` is forced but not available.
        """
        needs_grad = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *self.parameters()))
        path = choose_path(x, scale_factor=self.scale_factor, training=needs_grad, path=self.path)
        if path == 'plain' or self._overrides_offset:
            return dysample(x, self.predict_offset(x), self.scale_factor, self.groups)
        options = (self.init_pos, self.scope_factor, self.scale_factor, self.groups, path == 'fused')
        if needs_grad and self._has_bare_layers and not captured() and not x.is_meta:
            scope = (None, None) if self.scope is None else (self.scope.weight, self._bias_like(self.scope.weight))
            return LearnedSampling.apply(x, self.offset.weight, self.offset.bias, *scope, *options)
        return sample(x, *self._predict(x), *options)

    @property
    def _overrides_offset(self) -> bool:
        """Whether a subclass overrides :meth:`predict_offset`, which must then be called."""
        return type(self).predict_offset is not DySample.predict_offset

    @property
    def _has_bare_layers(self) -> bool:
        """Whether the layers' weights may be used without calling the layers."""
        return _is_bare(self.offset) and (self.scope is None or (_is_bare(self.scope) and self.scope.bias is None))

    def predict_offset(self, x: Tensor) -> Tensor:
        """Return the sampling points that the module predicts from a map.

        A subclass may override this method; ``forward`` then calls it.

        Args:
            x: ``(B, C, H, W)``.

        Returns:
            ``(B, 2*g*s*s, H, W)``, float32 or wider: the distance of each sampling point from the centre of its input pixel, in input
            pixels, the channels ordered as (x | y, group, row, column).
        """
        offset, scope = self._predict(x)
        return sampling_offset(offset, scope, self.init_pos, self.scope_factor)

    def predict_scope(self, x: Tensor) -> Tensor:
        """Return the scope, the distance that a sampling point moves per unit of offset.

        Args:
            x: ``(B, C, H, W)``.

        Returns:
            ``(B, 2*g*s*s, H, W)``, float32 or wider, in input pixels, the channels ordered as in :meth:`predict_offset`. A static scope is
            constant.
        """
        dtype = torch.promote_types(x.dtype, torch.float32)
        if self.scope is None:
            return torch.full((), self.scope_factor, dtype=dtype, device=x.device).expand(x.shape[0], self.init_pos.shape[1], *x.shape[2:])
        return 2 * self.scope_factor * self._linear(self._biased_scope, x).to(dtype).sigmoid()

    def _predict(self, x: Tensor) -> tuple[Tensor, Optional[Tensor]]:
        """Return the output of the offset layer and of the scope layer (None for a static scope), both ``(B, 2*g*s*s, H, W)``."""
        return self._linear(self.offset, x), None if self.scope is None else self._linear(self._biased_scope, x)

    def _biased_scope(self, x: Tensor) -> Tensor:
        raw = self.scope(x)  # type: ignore[misc]
        return raw if self.scope_bias is None else raw + self._bias_like(raw).view(-1, 1, 1)

    def _bias_like(self, t: Tensor) -> Tensor:
        """Return the bias of the scope layer in the dtype and on the device of a tensor, which a checkpoint may have changed."""
        return self.scope_bias.to(t)  # type: ignore[union-attr]

    def _linear(self, conv: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return pointwise(x, self.in_channels if self.style == 'lp' else self.in_channels // self.scale_factor**2, conv)

    def extra_repr(self) -> str:
        """Return the arguments that ``repr`` shows; ``scope_factor`` and ``init_position`` only if one of them is not the default."""
        design = ''
        if (self.scope_factor, self.init_position) != (0.25, 'bilinear'):
            design = f', scope_factor={self.scope_factor}, init_position={self.init_position!r}'
        return f'{super().extra_repr()}, style={self.style!r}, groups={self.groups}, dyscope={self.dyscope}{design}'


def _is_bare(conv: nn.Module) -> bool:
    """Return True for an unmodified ``nn.Conv2d`` without hooks, of its own or global: only then may its weights be used directly."""
    hooks = (conv._forward_hooks, conv._forward_pre_hooks, conv._backward_hooks, conv._backward_pre_hooks)
    # The four that nn.Module.__call__ reads; torch before 2.8 has no function that asks for all.
    every = nn.modules.module
    global_hooks = (
        every._global_forward_hooks,
        every._global_forward_pre_hooks,
        every._global_backward_hooks,
        every._global_backward_pre_hooks,
    )
    unmodified = type(conv) is nn.Conv2d and 'forward' not in conv.__dict__
    return unmodified and not any(hooks) and not any(global_hooks)


@register_upsampler('DySample+')
class DySamplePlus(DySample):
    """:class:`DySample` with a dynamic scope. Pass the arguments after ``scale_factor`` by keyword."""

    __init__ = partialmethod(DySample.__init__, dyscope=True)


@register_upsampler('DySample-S')
class DySampleS(DySample):
    """:class:`DySample` with offsets predicted at the output's resolution. Pass the arguments after ``scale_factor`` by keyword."""

    __init__ = partialmethod(DySample.__init__, style='pl', groups=8)


@register_upsampler('DySample-S+')
class DySampleSPlus(DySample):
    """:class:`DySampleS` with a dynamic scope. Pass the arguments after ``scale_factor`` by keyword."""

    __init__ = partialmethod(DySample.__init__, style='pl', groups=8, dyscope=True)
