"""The base classes of all upsamplers."""

import copy
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, Optional

from torch import Tensor, nn
from torch.fx import Proxy

from mmdysample.frameworks import require

from .registration import UPSAMPLERS


class ShapeError(ValueError):
    """A feature map has a shape that a module cannot process; raised when the model runs."""


class Upsampler(nn.Module):
    """The base class of an upsampling layer from ``(B, C, H, W)`` to ``(B, C, s*H, s*W)``.

    A subclass upsamples in its method ``upsample(x)``, which :meth:`forward` calls. It declares its limits in the class attributes below;
    by default there are none.

    Args:
        in_channels: Channels ``C`` of the map.
        scale_factor: Integer ratio ``s``.
        init_cfg: mmengine's initialisation, which overrides the upsampler's own. It needs mmengine.

    Raises:
        ValueError: ``in_channels`` or ``scale_factor`` is not a positive integer, or is outside the limits of the class.
        ImportError: ``init_cfg`` is given, and mmengine is not installed.
    """

    #: Whether ``forward`` takes a guide, the finer feature map that the model merges with the result, as a second argument.
    guided = False
    #: Whether the method has the guide as a second result, which a model then adds or concatenates in place of its own finer map.
    enhances_guide = False
    #: The ratios that the class supports; None for any ratio.
    scale_factors: Optional[tuple[int, ...]] = None
    #: ``in_channels``, and ``guide_channels`` of a guided upsampler, must be divisible by this number.
    channel_divisor = 1

    upsample: Callable[..., Tensor]

    def __init__(self, in_channels: int, scale_factor: int = 2, init_cfg: Any = None) -> None:
        super().__init__()
        if init_cfg:
            require('mmengine', 'init_cfg')
        self.init_cfg = copy.deepcopy(init_cfg)
        in_channels, scale_factor = check_positive(in_channels=in_channels, scale_factor=scale_factor)
        if self.scale_factors and scale_factor not in self.scale_factors:
            allowed = ' or '.join(map(str, self.scale_factors))
            raise ValueError(f'{self.name}: scale_factor must be {allowed}, got {scale_factor}')
        self._check_divisor(in_channels=in_channels)
        self.in_channels = in_channels
        self.scale_factor = scale_factor
        # Eager-mode quantisation leaves such a module in float. Quantised layers take quantised maps only, which other operations refuse.
        self.qconfig = None

    @property
    def name(self) -> str:
        """The name in configs, or the name of the class if it is not registered."""
        names = (name for name, cls in UPSAMPLERS.items() if cls is type(self))
        return next(names, type(self).__name__)

    def reset_parameters(self) -> None:
        """Initialise the parameters as the paper or its published implementation does; a subclass with parameters overrides this."""

    def init_weights(self) -> None:
        """Initialise the upsampler when mmengine initialises the model.

        The ``init_cfg`` of a neck, such as Xavier's, initialises every convolution inside the neck. mmengine calls this method afterwards.
        It restores the upsampler's own initialisation and then applies the upsampler's ``init_cfg``.
        """
        self.reset_parameters()
        if self.init_cfg:
            from mmengine.model import initialize

            configs = [self.init_cfg] if isinstance(self.init_cfg, dict) else self.init_cfg
            # Weights from a file come last, or the other entries would overwrite them.
            initialize(self, sorted(configs, key=lambda cfg: cfg['type'] == 'Pretrained'))

    def forward(self, x: Tensor) -> Tensor:
        """Upsample a map. A graph of ``torch.fx`` holds the module as a leaf.

        Args:
            x: ``(B, C, H, W)``.

        Returns:
            ``(B, C, s*H, s*W)``, of the dtype of ``x``.

        Raises:
            ValueError: ``x`` is not a floating-point map; or :class:`ShapeError`, if it is not ``(B, C, H, W)``.
        """
        if isinstance(x, Proxy):
            return self._leaf(x)
        self.check_map(x)
        return self.upsample(x)

    @property
    def upsampler(self) -> 'Upsampler':
        """The module itself, under the name of the leaf in ``torch.fx.symbolic_trace(module)``."""
        return self

    def _leaf(self, *inputs: Any) -> Any:
        """Add a call of this module to a graph of ``torch.fx``, whose tracer cannot follow decisions that depend on a map."""
        tracer = next(value for value in inputs if isinstance(value, Proxy)).tracer
        return tracer.create_proxy('call_module', tracer.path_of_module(self) or 'upsampler', inputs, {})  # type: ignore[attr-defined]

    def check_map(self, x: Tensor) -> None:
        """Raise a ValueError unless a map is floating-point and ``(B, C, H, W)`` with the ``in_channels`` of this module."""
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ShapeError(f'{self.name}: expected a map (B, {self.in_channels}, H, W), got the shape {tuple(x.shape)}')
        self._check_dtype(x, 'map')

    def _check_dtype(self, x: Tensor, role: str) -> None:
        if not x.is_floating_point():
            remedy = 'put a torch.ao.quantization.DeQuantStub before this module' if x.is_quantized else 'convert it first'
            raise ValueError(f'{self.name}: expected a floating-point {role}, got {x.dtype}: {remedy}')

    def extra_repr(self) -> str:
        return f'{self.in_channels}, scale_factor={self.scale_factor}'

    def _check_divisor(self, **channels: int) -> None:
        for name, value in channels.items():
            if value % self.channel_divisor:
                raise ValueError(f'{self.name}: {name} must be divisible by {self.channel_divisor}, got {value}')


class GuidedUpsampler(Upsampler):
    """The base class of an upsampler whose ``forward(x, guide)`` also takes a guide.

    The guide is the finer feature map that the model merges with the result. A subclass upsamples in its method ``upsample(x, guide)``. One
    that also enhances the guide sets ``enhances_guide = True`` and returns both in its method ``upsample_and_enhance(x, guide)``.

    Args:
        in_channels: Channels ``C`` of the map.
        guide_channels: Channels ``C_g`` of the guide. The default is ``in_channels``.
        scale_factor: Integer ratio ``s``.
        init_cfg: mmengine's initialisation, which overrides the upsampler's own.

    Raises:
        ValueError: An argument is not a positive integer, or is outside the limits of the class.
        ImportError: ``init_cfg`` is given, and mmengine is not installed.
    """

    guided = True

    upsample_and_enhance: Callable[..., tuple[Tensor, Tensor]]

    def __init__(self, in_channels: int, guide_channels: Optional[int] = None, scale_factor: int = 2, init_cfg: Any = None) -> None:
        super().__init__(in_channels, scale_factor, init_cfg)
        (guide_channels,) = check_positive(guide_channels=in_channels if guide_channels is None else guide_channels)
        self._check_divisor(guide_channels=guide_channels)
        self.guide_channels = guide_channels

    def forward(self, x: Tensor, guide: Optional[Tensor] = None, both: bool = False) -> Any:
        """Upsample a map with the help of a guide.

        Args:
            x: ``(B, C, H, W)``.
            guide: ``(B, C_g, s*H, s*W)``.
            both: Whether to return the guide as well. It is enhanced if the class has ``enhances_guide``, and otherwise as it was.

        Returns:
            ``(B, C, s*H, s*W)``, of the dtype of ``x``; with ``both``, a tuple of this map and the guide.

        Raises:
            ValueError: The map or the guide is not floating-point; or :class:`ShapeError`, if the map is not ``(B, C, H, W)``, or the guide
                is missing or not ``(B, C_g, s*H, s*W)``.
        """
        if isinstance(x, Proxy) or isinstance(guide, Proxy):
            return self._leaf(x, guide, both)
        guide = self._check_guide(x, guide)
        if both and self.enhances_guide:
            return self.upsample_and_enhance(x, guide)
        out = self.upsample(x, guide)
        return (out, guide) if both else out

    def _check_guide(self, x: Tensor, guide: Optional[Tensor]) -> Tensor:
        self.check_map(x)
        s = self.scale_factor
        expected = (x.shape[0], self.guide_channels, s * x.shape[2], s * x.shape[3])
        if guide is None:
            raise ShapeError(f'{self.name} is guided: it needs a second map, the guide {expected}, got None')
        if guide.shape != expected:
            raise ShapeError(
                f'{self.name}: expected a guide (B, {self.guide_channels}, {s}*H, {s}*W) = {expected}, got the shape {tuple(guide.shape)}'
            )
        self._check_dtype(guide, 'guide')
        return guide

    def extra_repr(self) -> str:
        return f'{self.in_channels}, guide_channels={self.guide_channels}, scale_factor={self.scale_factor}'


def check_positive(**values: Any) -> list[int]:
    """Return the values as Python integers, because numpy's would become tensors under a compiler.

    Raises:
        ValueError: A value is not a positive integer.
    """
    for name, value in values.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise ValueError(f'{name} must be a positive integer, got {value!r}')
    return [int(value) for value in values.values()]


def check_positive_number(**values: Any) -> None:
    """Raise a ValueError unless every value is a positive, finite number."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < float('inf'):
            raise ValueError(f'{name} must be a positive number, got {value!r}')


def check_bool(**values: Any) -> None:
    """Raise a ValueError unless every value is True or False, because a string such as ``'no'`` would count as true."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise ValueError(f'{name} must be True or False, got {value!r}')


def check_odd(**values: Any) -> list[int]:
    """Return the values as Python integers.

    Raises:
        ValueError: A value is not a positive odd integer, as a kernel size must be.
    """
    for name, value in zip(values, check_positive(**values)):
        if value % 2 == 0:
            raise ValueError(f'{name} must be odd, got {value}')
    return [int(value) for value in values.values()]
