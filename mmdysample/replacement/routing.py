"""Send a module's calls of ``F.interpolate`` to upsamplers of its own, without a change of its code.

The class of the module becomes a subclass of itself whose ``forward`` runs under a :class:`Routing`, and the upsamplers a child of it,
``upsample_modules``. So all else stays: the module is the same object, its weights keep their names, ``isinstance`` holds.
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
from mmdysample.upsamplers.fit import crop

from .calls import SMOOTH, Size, fits, target_size

NAME = 'upsample_modules'  # of the new child


@dataclass(frozen=True)
class Stop:
    """A call that a module makes on its way through ``forward``.

    Attributes:
        site: Its name.
        channels: Channels of the map.
        mode: What was interpolated by.
        ratio: The integer ratio; 0 for a call that stays what it was and may have any.
        upsampler: Index into ``upsample_modules``; None where the call stays what it was.
    """

    site: str
    channels: int
    mode: str
    ratio: int
    upsampler: Optional[int]

    def is_like(self, x: Tensor, target: Size, mode: str) -> bool:
        """Whether a call is this one."""
        return x.shape[1] == self.channels and mode == self.mode and (not self.ratio or fits(self.ratio, x.shape[2:], target))


class Routing(TorchFunctionMode):
    """Send the calls of one run of a module to its upsamplers, in the order of the stops.

    Calls that are like no stop (an image or a mask that is resized on the way) go on to torch.
    """

    def __init__(self, stops: Sequence[Stop], upsamplers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stops = stops
        self.upsamplers = upsamplers
        self.passed = 0
        self.with_gradients = torch.is_grad_enabled()

    def __torch_function__(self, func: Any, types: Any, args: Sequence = (), kwargs: Optional[dict] = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.interpolate:
            return func(*args, **kwargs)
        # Hidden from the routing of a module around this one: an upsampler may interpolate, too.
        with torch._C.DisableTorchFunction():
            return self._route(*args, **kwargs)

    def _route(self, x: Tensor, size: Any = None, scale_factor: Any = None, mode: str = 'nearest', *args: Any, **kwargs: Any) -> Tensor:
        if x.dim() == 4 and x.is_floating_point() and mode in SMOOTH:
            target = target_size(x, size, scale_factor)
            if self.passed < len(self.stops) and self.stops[self.passed].is_like(x, target, mode):
                stop = self.stops[self.passed]
                self.passed += 1
                if stop.upsampler is not None:
                    self._check_gradients()
                    out = self.upsamplers[stop.upsampler](x)
                    return out if size is None and scale_factor == stop.ratio else crop(out, x, target)
            elif any(stop.ratio and stop.is_like(x, target, mode) and target != tuple(x.shape[2:]) for stop in self.stops):
                raise ShapeError(self._astray(f'and then upsampled {x.shape[1]} channels from {tuple(x.shape[2:])} to {tuple(target)}'))
        return F.interpolate(x, size, scale_factor, mode, *args, **kwargs)

    def _check_gradients(self) -> None:
        if self.with_gradients and not torch.is_grad_enabled():
            # The backward pass would run this part again, out of reach: interpolated, and with no gradient for the upsampler.
            raise ValueError(
                'replace_upsample: a module calls checkpoint(..., use_reentrant=True) around a part that upsamples; put the checkpoint '
                'around the module, or exclude its sites'
            )

    def finish(self) -> None:
        """Check that no stop was left out.

        Raises:
            ShapeError: One was: another path was taken than with the example inputs, or a ratio changed with the size.
        """
        if self.passed < len(self.stops):
            stop = self.stops[self.passed]
            by = f'by {stop.ratio}' if stop.ratio else 'again'
            raise ShapeError(self._astray(f'and never upsampled {stop.channels} channels {by} ({stop.site})'))

    def _astray(self, what: str) -> str:
        sites = ', '.join(stop.site for stop in self.stops)
        return (
            f'replace_upsample: a module with the sites {sites} passed {self.passed} of them in order, {what}: it takes another path than '
            'with the example inputs. Exclude its sites, or give example inputs that take this path'
        )


@cache
def routed_class(base: Any) -> Any:
    """The subclass of a module's class whose ``forward`` is routed."""

    class RoutedModule(base):
        upsample_base = base

        @wraps(base.forward)  # its signature tells exporters and trainers what the inputs are called
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            routing = Routing(self.upsample_stops, getattr(self, NAME, ()))
            with routing:
                out = super().forward(*args, **kwargs)
            routing.finish()
            return out

        if hasattr(base, 'init_weights'):

            def init_weights(self) -> None:
                """Initialise as the base does, and then take the upsamplers back, which some bases reach and some only overwrite."""
                done_before = getattr(self, 'is_init', False)
                super().init_weights()
                if not done_before and not _is_pretrained(self):
                    for module in self.modules():
                        if isinstance(module, Upsampler):
                            module.init_weights()

        def __reduce_ex__(self, protocol: Any) -> tuple:
            # The class is made here and not in a module of that name, so a copy or a pickle makes it again.
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
    """Give a module upsamplers for its calls; without any, its calls are at least not taken for those of a module around it."""
    if upsamplers:
        setattr(owner, NAME, ModuleList(upsamplers))
    owner.upsample_stops = tuple(stops)  # type: ignore[assignment]
    base: Any = type(owner)
    owner.__class__ = routed_class(base)


def is_routed(module: nn.Module) -> bool:
    """Whether the calls of a module are routed."""
    return hasattr(type(module), 'upsample_base')


def restore_upsample(model: nn.Module) -> nn.Module:
    """Undo :func:`~mmdysample.replace_upsample`, in place.

    Args:
        model: The model, or a copy of it.

    Returns:
        The model, as it was before, with the weights that it has now, less those of the upsamplers.

    Raises:
        ValueError: The class of a module was changed again since, as ``parametrize`` does.
    """
    routed = [module for module in model.modules() if is_routed(module)]
    for module in routed:
        if 'upsample_base' not in vars(type(module)):
            raise ValueError(f'{type(module).__name__} had its class changed after replace_upsample (as parametrize does): undo that first')
    for module in routed:
        if hasattr(module, NAME):  # some have none, and only keep their calls from a module around them
            delattr(module, NAME)
        del module.upsample_stops
        module.__class__ = vars(type(module))['upsample_base']
    return model
