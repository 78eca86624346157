"""Redirect a module's calls of ``F.interpolate`` to upsamplers, without changing the module's code. This is called routing.

The class of the module is replaced by a subclass whose ``forward`` runs under a :class:`Routing`, and the upsamplers become a child,
``upsample_modules``. Everything else stays the same: the module is the same object, its weights keep their names, and ``isinstance`` still
holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmdysample.upsamplers.base import ShapeError, Upsampler
from mmdysample.upsamplers.containers import ModuleList
from mmdysample.upsamplers.fit import fits, upsample_to, why_unfit

from .calls import SMOOTH, Size, target_size
from .hub_config import forget
from .ultralytics_yaml import forget_rows

NAME = 'upsample_modules'  # the name of the new child


@dataclass(frozen=True)
class Stop:
    """A call of ``F.interpolate`` that a module is expected to make in its ``forward``.

    Attributes:
        site: The name of the call in the report.
        channels: Channels of the map.
        mode: The interpolation mode.
        ratio: The integer ratio; 0 for an unchanged call that may have any ratio.
        upsampler: The index in ``upsample_modules`` of the upsampler that replaces the call; None if the call is unchanged.
    """

    site: str
    channels: int
    mode: str
    ratio: int
    upsampler: Optional[int]

    def is_alike(self, x: Tensor, mode: str) -> bool:
        """Return True if a call has the channels and mode of this stop."""
        return x.shape[1] == self.channels and mode == self.mode

    def is_like(self, x: Tensor, target: Size, mode: str) -> bool:
        """Return True if a call has the channels, mode and ratio of this stop."""
        return self.is_alike(x, mode) and (not self.ratio or fits(self.ratio, x.shape[2:], target))


class Unseen:
    """A context without torch function modes.

    ``torch._C.DisableTorchFunction`` is such a context too, but ``torch.compile`` cannot trace it before torch 2.8.
    """

    def __enter__(self) -> None:
        self.modes: list[Any] = []
        while torch._C._len_torch_function_stack():
            self.modes.append(torch._C._pop_torch_function_stack())

    def __exit__(self, *_: Any) -> None:
        for mode in reversed(self.modes):
            torch._C._push_on_torch_function_stack(mode)


class Routing(TorchFunctionMode):
    """A torch function mode that redirects the calls of one run of a module to its upsamplers, in the order of the stops.

    A call that matches no stop, such as one that resizes an image or a mask, still interpolates.
    """

    def __init__(self, stops: Sequence[Stop], upsamplers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stops = stops
        self.upsamplers = upsamplers
        self.passed = 0
        # The sizes of a call that is like the next stop, except for its ratio. They are put into words later, not under a compiler.
        self.unfit: Optional[tuple[Sequence[int], Size]] = None
        self.with_gradients = torch.is_grad_enabled()

    def __torch_function__(self, func: Any, types: Any, args: Sequence = (), kwargs: Optional[dict] = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.interpolate:
            return func(*args, **kwargs)
        # Hide the call from the routing of a module around this one, because an upsampler may call F.interpolate itself.
        with Unseen():
            return self._route(*args, **kwargs)

    def _route(self, x: Tensor, size: Any = None, scale_factor: Any = None, mode: str = 'nearest', *args: Any, **kwargs: Any) -> Tensor:
        if x.dim() == 4 and x.is_floating_point() and mode in SMOOTH:
            target = target_size(x, size, scale_factor)
            if self.passed < len(self.stops) and self.stops[self.passed].is_like(x, target, mode):
                stop = self.stops[self.passed]
                self.passed += 1
                self.unfit = None
                if stop.upsampler is not None:
                    self._check_gradients()
                    upsampler = self.upsamplers[stop.upsampler]
                    exact = size is None and scale_factor == stop.ratio
                    return upsampler(x) if exact else upsample_to(upsampler, x, target, stop.ratio)
            elif any(stop.ratio and stop.is_like(x, target, mode) and target != tuple(x.shape[2:]) for stop in self.stops):
                raise ShapeError(self._astray(f'and then upsampled {x.shape[1]} channels from {tuple(x.shape[2:])} to {tuple(target)}'))
            elif self.passed < len(self.stops) and self.stops[self.passed].is_alike(x, mode):
                self.unfit = x.shape[2:], target
        return F.interpolate(x, size, scale_factor, mode, *args, **kwargs)

    def _check_gradients(self) -> None:
        if self.with_gradients and not torch.is_grad_enabled():
            # In the backward pass, this checkpoint runs its part again outside the routing. That run would interpolate, and the upsampler
            # would get no gradient.
            raise ValueError(
                'replace_upsample: a module calls checkpoint(..., use_reentrant=True) around code that upsamples; put the checkpoint '
                'around the module, or exclude its sites'
            )

    def finish(self) -> None:
        """Check that the module made the calls of all stops.

        Raises:
            ShapeError: A call is missing, because ``forward`` took another branch than with the example inputs, or a ratio changed.
        """
        if self.passed < len(self.stops):
            stop = self.stops[self.passed]
            if self.unfit:
                raise ShapeError(
                    f'replace_upsample: at {stop.site}, {why_unfit(stop.ratio, *self.unfit)}. Give the model another input size, or '
                    'exclude the site'
                )
            by = f'by {stop.ratio}' if stop.ratio else 'again'
            raise ShapeError(self._astray(f'but never upsampled {stop.channels} channels {by} ({stop.site})'))

    def _astray(self, what: str) -> str:
        sites = ', '.join(stop.site for stop in self.stops)
        return (
            f'replace_upsample: a module does not make the same calls as with the example inputs: it reached {self.passed} of its '
            f'sites ({sites}) in order, {what}. Exclude its sites, or give example inputs with which it makes these calls'
        )


@cache
def routed_class(base: Any) -> Any:
    """Return a subclass of a module's class whose ``forward`` runs under a :class:`Routing`."""

    class RoutedModule(base):
        upsample_base = base

        @wraps(base.forward)  # exporters and trainers read the names of the inputs from the signature
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            routing = Routing(self.upsample_stops, getattr(self, NAME, ()))
            with routing:
                out = super().forward(*args, **kwargs)
            routing.finish()
            return out

        if hasattr(base, 'init_weights'):

            def init_weights(self) -> None:
                """Initialise as the base class does, and then initialise the upsamplers again.

                Some base classes overwrite the weights of the upsamplers without calling their ``init_weights``.
                """
                done_before = getattr(self, 'is_init', False)
                super().init_weights()
                if not done_before and not _is_pretrained(self):
                    for module in self.modules():
                        if isinstance(module, Upsampler):
                            module.init_weights()

        def __reduce_ex__(self, protocol: Any) -> tuple:
            # Pickle cannot find this class by name, because it is created at run time. Copies and pickles create it again from its base.
            _, _, *state = super().__reduce_ex__(4)
            return _make, (base,), *state

    RoutedModule.__name__, RoutedModule.__qualname__, RoutedModule.__module__ = base.__name__, base.__qualname__, base.__module__
    RoutedModule.__doc__ = base.__doc__
    return RoutedModule


def _is_pretrained(module: nn.Module) -> bool:
    init_cfg = getattr(module, 'init_cfg', None) or []
    return any(cfg.get('type') == 'Pretrained' for cfg in ([init_cfg] if isinstance(init_cfg, dict) else init_cfg))


def _make(base: Any) -> nn.Module:
    cls = routed_class(base)
    return cls.__new__(cls)


def route(owner: nn.Module, stops: Sequence[Stop] = (), upsamplers: Sequence[nn.Module] = ()) -> None:
    """Redirect a module's calls to upsamplers.

    A module without stops is routed so that its calls do not count as calls of a module around it.
    """
    if upsamplers:
        setattr(owner, NAME, ModuleList(upsamplers))
    owner.upsample_stops = tuple(stops)  # type: ignore[assignment]
    base: Any = type(owner)
    owner.__class__ = routed_class(base)


def is_routed(module: nn.Module) -> bool:
    """Return True if the calls of a module are routed."""
    return hasattr(type(module), 'upsample_base')


def restore_upsample(model: nn.Module) -> nn.Module:
    """Undo :func:`~mmdysample.replace_upsample`, in place.

    Args:
        model: The model, or a copy of it.

    Returns:
        The same model without the upsamplers. All other weights keep their current values.

    Raises:
        ValueError: The class of a module was changed after ``replace_upsample``, as ``torch.nn.utils.parametrize`` does.
    """
    routed = [module for module in model.modules() if is_routed(module)]
    for module in routed:
        if 'upsample_base' not in vars(type(module)):
            raise ValueError(f'{type(module).__name__} had its class changed after replace_upsample (as parametrize does): undo that first')
    for module in routed:
        if hasattr(module, NAME):  # a module can be routed without upsamplers, see route()
            delattr(module, NAME)
        del module.upsample_stops
        module.__class__ = vars(type(module))['upsample_base']
    for module in model.modules():
        forget(module)
    forget_rows(model)
    return model
