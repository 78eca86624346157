"""Record every call of ``F.interpolate`` in one run of a model, with the modules that were running.

``nn.Upsample``, mmseg's ``resize`` and most other functions that resize maps call ``F.interpolate``.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from mmdysample.upsamplers.fit import by, fits

from .example import Example, map_tensors
from .trail import Trail

Size = tuple[int, int]
SMOOTH = ('nearest', 'nearest-exact', 'bilinear', 'bicubic')  # the modes that an upsampler can replace


@dataclass
class Call:
    """A call of ``F.interpolate``.

    Attributes:
        order: The index of the call in the run of the model.
        path: The modules that were running, outermost first, as ``(name in the model, number of earlier runs of that module)``.
        channels: Channels of the input; 0 if it is not a map ``(B, C, H, W)``.
        size: Height and width of the input; zeros if it is not a map.
        target: Height and width of the output; zeros if the input is not a map.
        ratio: The integer ratio of ``target`` to ``size``, or 0 if there is none.
        mode: The interpolation mode: ``'nearest'``, ``'bilinear'``, ...
        align_corners: Whether the centres of the corner pixels stay in place, instead of the corners of the map.
        device: The device of the input.
        dtype: The dtype of the input. None under autocast, where the input may have another dtype than the weights.
        traced: Whether the input requires a gradient, so that it depends on the weights or inputs from which gradients are traced.
        factor: The argument ``scale_factor`` of the call.
        unfit: The reason no upsampler can replace the call, or an empty string. :func:`record_calls` checks only the arguments of the
            call; :func:`~mmdysample.replacement.places.find_places` adds further reasons.
        by_size: Whether ``unfit`` is about the sizes in this run, so that it may not hold with a larger input.
        leaves: Whether the result leaves the model without passing a trained layer; see :class:`~mmdysample.replacement.trail.Trail`.
    """

    order: int
    path: tuple[tuple[str, int], ...]
    channels: int
    size: Size
    target: Size
    ratio: int
    mode: str
    align_corners: bool
    device: torch.device
    dtype: Optional[torch.dtype]
    traced: bool
    factor: Any
    unfit: str
    by_size: bool
    leaves: bool = False


def integer_ratio(size: Size, target: Size) -> int:
    """Return the integer ratio, at least 2, by which a size was upsampled to a target, or 0 if there is none.

    If the ratio is a power of two, the target may differ from it as much as :func:`~mmdysample.upsamplers.fit.fits` allows, because a
    backbone rounds when it halves an odd size: 25 rows become 13 or 12, and upsampling must return 25.
    """
    longest = max(zip(target, size))  # rounding changes the ratio least on the longer side
    ratios = (longest[0] // longest[1], -(-longest[0] // longest[1]))
    exact = [ratio for ratio in ratios if all(ratio * have == want for have, want in zip(size, target))]
    rounded = [ratio for ratio in ratios if ratio & (ratio - 1) == 0 and fits(ratio, size, target)]
    return next((ratio for ratio in (*exact, *rounded) if ratio > 1), 0)


def target_size(x: Tensor, size: Any = None, scale_factor: Any = None) -> Size:
    """Return the height and width of the output of ``F.interpolate(x, size, scale_factor)`` for a map."""
    if size is not None:
        return tuple(size) if isinstance(size, (list, tuple)) else (size, size)
    factors = scale_factor if isinstance(scale_factor, (list, tuple)) else (scale_factor, scale_factor)
    # For an integer factor, multiply without int(), which would turn a dynamic size of an exporter into a constant.
    height, width = (have * int(f) if f == int(f) else int(have * f) for have, f in zip(x.shape[2:], factors))
    return height, width


class Recorder(TorchFunctionMode):
    """A torch function mode that records every call of ``F.interpolate`` while a model runs.

    Attributes:
        calls: The calls so far, in order.
        runs: How often each module has run, by its name.
        trail: Follows the results of the calls, if it is given.
    """

    def __init__(self, trail: Optional[Trail] = None) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.runs: Counter[str] = Counter()
        self.trail = trail
        self._running: list[tuple[str, int]] = []

    def enter(self, name: str) -> None:
        """Record that a module starts to run."""
        self._running.append((name, self.runs[name]))
        self.runs[name] += 1

    def leave(self) -> None:
        """Record that the innermost running module has finished."""
        self._running.pop()

    def __torch_function__(self, func: Any, types: Any, args: Sequence = (), kwargs: Optional[dict] = None) -> Any:
        kwargs = kwargs or {}
        if func is F.interpolate:
            self._note(*args, **kwargs)
        out = func(*args, **kwargs)
        if self.trail:
            self.trail.follow(func, args, kwargs, out, begins=len(self.calls) - 1 if func is F.interpolate else None)
        return out

    def _note(
        self, x: Tensor, size: Any = None, scale_factor: Any = None, mode: str = 'nearest', align_corners: Any = None, *_: Any, **__: Any
    ) -> None:
        have, want, channels, ratio = (0, 0), (0, 0), 0, 0
        if x.dim() == 4:
            height, width = target_size(x, size, scale_factor)
            have, want, channels = (int(x.shape[2]), int(x.shape[3])), (int(height), int(width)), int(x.shape[1])
            ratio = integer_ratio(have, want)
        kind = x.device.type
        dtype = None if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind) else x.dtype
        unfit, by_size = _unfit_input(x, mode), False
        if not unfit:
            unfit = _unfit_size(have, want, ratio)
            by_size = bool(unfit)
        path = tuple(self._running)
        at_corners = bool(align_corners)
        call = Call(
            len(self.calls),
            path,
            channels,
            have,
            want,
            ratio,
            mode,
            at_corners,
            x.device,
            dtype,
            x.requires_grad,
            scale_factor,
            unfit,
            by_size,
        )
        self.calls.append(call)


def _unfit_input(x: Tensor, mode: str) -> str:
    """Return the reason an upsampler cannot replace a call, whatever the sizes are, or an empty string."""
    if x.dim() != 4:
        return f'the input is not a map (B, C, H, W), but has the shape {tuple(x.shape)}'
    if not x.is_floating_point():
        return f'the input is not a feature map, but {x.dtype}'
    return '' if mode in SMOOTH else f'an upsampler cannot replace mode {mode!r}'


def _unfit_size(have: Size, want: Size, ratio: int) -> str:
    """Return the reason an upsampler cannot replace a call of these sizes, or an empty string."""
    if have == want:
        return 'the size does not change'
    if want[0] <= have[0] and want[1] <= have[1]:
        return 'downsampling'
    if min(have) == 1:
        return 'the map has a single row or column, which leaves no pixels to sample between'
    return '' if ratio else f'{by(have)} to {by(want)} is not an integer ratio'


def record_calls(model: nn.Module, example: Example, of_input: bool = False) -> tuple[list[Call], Counter[str]]:
    """Run a model once, in evaluation mode, and return its calls of ``F.interpolate``.

    Args:
        model: The model. Its weights, buffers, training modes and hooks are unchanged afterwards.
        example: The arguments to call the model with.
        of_input: Whether gradients are traced from the inputs instead of from the weights. The run then also finds the calls whose results
            leave the model.

    Returns:
        The calls, in order, and how often each module ran, by its name.

    Raises:
        ExampleError: A ValueError; the model does not run on these inputs.
    """
    recorder = Recorder(Trail() if of_input else None)
    with ExitStack() as stack:
        stack.enter_context(as_it_was(model, trainable=not of_input))
        for name, module in model.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):
                stack.callback(module.register_forward_pre_hook(lambda *_, name=name: recorder.enter(name)).remove)
                stack.callback(module.register_forward_hook(lambda *_: recorder.leave(), always_call=True).remove)
        stack.enter_context(recorder)
        out = run_once(model, example, of_input)
    for order in recorder.trail.ends_in(out) if recorder.trail else ():
        recorder.calls[order].leaves = True
    return recorder.calls, recorder.runs


class ExampleError(ValueError):
    """A model does not run on its example inputs.

    Attributes:
        why: The type and message of the model's exception, in one line.
    """

    def __init__(self, model: nn.Module, error: Exception) -> None:
        self.why = ' '.join(f'{type(error).__name__}: {error}'.split())
        super().__init__(
            f'{type(model).__name__} does not run on the example inputs, which must be a tensor, a tuple of arguments or a dict of keyword '
            f'arguments: {self.why}'
        )


def run_once(model: nn.Module, example: Example, traced: bool = False) -> Any:
    """Call a model with copies of its inputs, and return its output. A copy requires a gradient if its input does, or if ``traced`` is set.

    Raises:
        ExampleError: A ValueError; the model does not run on these inputs.
    """

    def copy(x: Tensor) -> Tensor:
        leaf = x.detach().clone()
        # Copy again, because a model may change its input in place, which autograd forbids for a leaf.
        return leaf.requires_grad_().clone() if leaf.is_floating_point() and (traced or x.requires_grad) else leaf

    args, kwargs = map_tensors(example, copy)
    try:
        return model(*args, **kwargs)
    except Exception as error:
        raise ExampleError(model, error) from error


@contextmanager
def as_it_was(model: nn.Module, trainable: bool = True) -> Iterator[None]:
    """Put a model into evaluation mode, and restore its state at the end.

    All parameters require gradients inside the context if ``trainable`` is set, and none otherwise. At the end, the training modes, the
    ``requires_grad`` of the parameters, the buffers and the random number generators are as before.
    """
    modes = {module: module.training for module in model.modules()}
    asked = {p: p.requires_grad for p in model.parameters() if not is_lazy(p) and p.is_floating_point()}
    buffers = {buffer: buffer.detach().clone() for buffer in model.buffers() if not is_lazy(buffer)}
    devices = {p.device.index or 0 for p in asked if p.is_cuda}
    try:
        for module in modes:  # set the flag directly, because a module's train() may do more than that
            module.training = False
        for p in asked:
            p.requires_grad_(trainable)
        with torch.random.fork_rng(devices=devices), torch.enable_grad():
            yield
    finally:
        for p, requires_grad in asked.items():
            p.requires_grad_(requires_grad)
        with torch.no_grad():
            for buffer, before in buffers.items():
                buffer.copy_(before)
        for module, training in modes.items():
            module.training = training
