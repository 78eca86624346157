"""Where a model interpolates: every call of ``F.interpolate`` in one run, and the module that makes it.

``nn.Upsample``, mmseg's ``resize`` and most others end in that one function.
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

from .example import Example, map_tensors

Size = tuple[int, int]
SMOOTH = ('nearest', 'nearest-exact', 'bilinear', 'bicubic')  # the modes of maps


@dataclass
class Call:
    """A call of ``F.interpolate``.

    Attributes:
        order: Which call of the run it is.
        path: Modules that were running, outermost first, as ``(name in the model, number of the run of that module)``.
        channels: Channels of the map; 0 where it is none.
        size: Height and width of the input.
        target: Height and width of the output.
        mode: ``'nearest'``, ``'bilinear'``, ...
        device: Of the input.
        dtype: Of the input; None within autocast, where it says nothing of the weights.
        traced: Whether gradients flow into the input.
        unfit: Why no upsampler can stand there, as far as the input alone tells; empty where one can.
    """

    order: int
    path: tuple[tuple[str, int], ...]
    channels: int
    size: Size
    target: Size
    mode: str
    device: torch.device
    dtype: Optional[torch.dtype]
    traced: bool
    unfit: str

    @property
    def ratio(self) -> int:
        """The ratio between output and input; 0 where it is no integer."""
        return integer_ratio(self.size, self.target) if self.channels else 0


def integer_ratio(size: Size, target: Size) -> int:
    """The integer ratio ``s`` of an upsampling, or 0."""
    ratio = -(-target[0] // size[0])
    return ratio if ratio > 1 and fits(ratio, size, target) else 0


def fits(ratio: int, size: Sequence[int], target: Sequence[int], times: int = 1) -> bool:
    """Whether ``target`` is ``ratio`` times ``size``.

    Where the ratio is a power of two, also if it is a little less: a backbone that halves a map rounds up, so that 13 rows follow from 25.
    Where maps were made larger by a factor afterwards (``times``), so was that little.
    """
    short = times * (ratio - 1) if ratio & (ratio - 1) == 0 else 0
    return all(ratio * have - short <= want <= ratio * have for have, want in zip(size, target))


def target_size(x: Tensor, size: Any = None, scale_factor: Any = None) -> Size:
    """Height and width of the output of ``F.interpolate(x, size, scale_factor)`` of a map."""
    if size is not None:
        return tuple(size) if isinstance(size, (list, tuple)) else (size, size)
    factors = scale_factor if isinstance(scale_factor, (list, tuple)) else (scale_factor, scale_factor)
    # No int() around what is an integer already: it would freeze a size that an exporter keeps open.
    height, width = (have * int(f) if f == int(f) else int(have * f) for have, f in zip(x.shape[2:], factors))
    return height, width


class Recorder(TorchFunctionMode):
    """Note every call of ``F.interpolate`` while a model runs."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.runs: Counter[str] = Counter()
        self._running: list[tuple[str, int]] = []

    def enter(self, name: str) -> None:
        """Note that a module starts to run."""
        self._running.append((name, self.runs[name]))
        self.runs[name] += 1

    def leave(self) -> None:
        """Note that the innermost module has run."""
        self._running.pop()

    def __torch_function__(self, func: Any, types: Any, args: Sequence = (), kwargs: Optional[dict] = None) -> Any:
        kwargs = kwargs or {}
        if func is F.interpolate:
            self._note(*args, **kwargs)
        return func(*args, **kwargs)

    def _note(self, x: Tensor, size: Any = None, scale_factor: Any = None, mode: str = 'nearest', *_: Any, **__: Any) -> None:
        have, want, channels = (0, 0), (0, 0), 0
        if x.dim() == 4:
            height, width = target_size(x, size, scale_factor)
            have, want, channels = (int(x.shape[2]), int(x.shape[3])), (int(height), int(width)), int(x.shape[1])
        kind = x.device.type
        dtype = None if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind) else x.dtype
        why_not = _why_not(x, have, want, mode)
        call = Call(len(self.calls), tuple(self._running), channels, have, want, mode, x.device, dtype, x.requires_grad, why_not)
        self.calls.append(call)


def _why_not(x: Tensor, have: Size, want: Size, mode: str) -> str:
    if x.dim() != 4:
        return f'no map (B, C, H, W), but {tuple(x.shape)}'
    if have == want:
        return 'the size stays'
    if want[0] <= have[0] and want[1] <= have[1]:
        return 'downsampling'
    if not x.is_floating_point():
        return f'no feature map, but {x.dtype}'
    if mode not in SMOOTH:
        return f'{mode!r} is no upsampling of maps'
    if min(have) == 1:
        return 'a single row or column has nothing to sample between'
    if not integer_ratio(have, want):
        return f'{have[0]}x{have[1]} to {want[0]}x{want[1]} is no integer ratio'
    return ''


def record_calls(model: nn.Module, example: Example, of_input: bool = False) -> tuple[list[Call], Counter[str]]:
    """Run a model once, in evaluation mode, and note where it interpolates.

    Args:
        model: The model; left as it was, with its weights, buffers, modes and hooks.
        example: What it is called with.
        of_input: Whether gradients are traced from the inputs, and not from the weights.

    Returns:
        The calls, and how often each module ran, by its name.

    Raises:
        ValueError: The model does not run on these inputs.
    """
    recorder = Recorder()
    with ExitStack() as stack:
        stack.enter_context(as_it_was(model, trainable=not of_input))
        for name, module in model.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):
                stack.callback(module.register_forward_pre_hook(lambda *_, name=name: recorder.enter(name)).remove)
                stack.callback(module.register_forward_hook(lambda *_: recorder.leave(), always_call=True).remove)
        stack.enter_context(recorder)
        run_once(model, example, of_input)
    return recorder.calls, recorder.runs


class ExampleError(ValueError):
    """A model does not run on its example inputs.

    Attributes:
        why: What it said, in a line.
    """

    def __init__(self, model: nn.Module, error: Exception) -> None:
        self.why = ' '.join(f'{type(error).__name__}: {error}'.split())
        super().__init__(
            f'{type(model).__name__} does not run on the example inputs, which are a tensor, a tuple of arguments or a dict of keyword '
            f'arguments: {self.why}'
        )


def run_once(model: nn.Module, example: Example, traced: bool = False) -> None:
    """Call a model with copies of its inputs; gradients flow from them if they are to be traced, or did before.

    Raises:
        ExampleError: It does not; a ValueError.
    """

    def copy(x: Tensor) -> Tensor:
        leaf = x.detach().clone()
        # A second copy: a model may change its input in place, which a leaf does not allow.
        return leaf.requires_grad_().clone() if leaf.is_floating_point() and (traced or x.requires_grad) else leaf

    args, kwargs = map_tensors(example, copy)
    try:
        model(*args, **kwargs)
    except Exception as error:
        raise ExampleError(model, error) from error


@contextmanager
def as_it_was(model: nn.Module, trainable: bool = True) -> Iterator[None]:
    """In evaluation mode, with gradients for all parameters or none; and all of it as before in the end."""
    modes = {module: module.training for module in model.modules()}
    asked = {p: p.requires_grad for p in model.parameters() if not is_lazy(p) and p.is_floating_point()}
    buffers = {buffer: buffer.detach().clone() for buffer in model.buffers() if not is_lazy(buffer)}
    devices = {p.device.index or 0 for p in asked if p.is_cuda}
    try:
        for module in modes:  # train() of the modules may do more than that
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
