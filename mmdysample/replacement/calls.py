"""Where a model interpolates: every call of ``F.interpolate`` in one run, and the module that makes it.

``nn.Upsample``, mmseg's ``resize`` and most others end in that one function.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Optional, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Size = tuple[int, int]
Arguments = tuple[tuple, dict[str, Any]]  # positional and keyword arguments of a call
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
        unfit: Why no upsampler can stand there; empty where one can.
    """

    order: int
    path: tuple[tuple[str, int], ...]
    channels: int
    size: Size
    target: Size
    mode: str
    device: torch.device
    unfit: str

    @property
    def ratio(self) -> int:
        """The ratio between output and input; 0 where it is no integer."""
        return integer_ratio(self.size, self.target) if self.channels else 0


def integer_ratio(size: Size, target: Size) -> int:
    """The integer ratio ``s`` of an upsampling, or 0."""
    ratio = -(-target[0] // size[0])
    return ratio if ratio > 1 and fits(ratio, size, target) else 0


def fits(ratio: int, size: Sequence[int], target: Sequence[int]) -> bool:
    """Whether ``target`` is ``ratio`` times ``size``.

    Where the ratio is a power of two, also if it is a little less: a backbone that halves a map rounds up, so that 13 rows follow from 25.
    """
    short = ratio - 1 if ratio & (ratio - 1) == 0 else 0
    return all(ratio * have - short <= want <= ratio * have for have, want in zip(size, target))


def target_size(x: Tensor, size: Any = None, scale_factor: Any = None) -> Size:
    """Height and width of the output of ``F.interpolate(x, size, scale_factor)`` of a map."""
    if size is None:
        factors = (scale_factor, scale_factor) if isinstance(scale_factor, (int, float)) else scale_factor
        size = [int(have * factor) for have, factor in zip(x.shape[2:], factors)]
    elif isinstance(size, (int, Tensor)):
        size = (size, size)
    return tuple(size)


class Recorder(TorchFunctionMode):
    """Note every call of ``F.interpolate`` while a model runs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.runs: Counter[str] = Counter()
        self._running: list[tuple[str, int]] = []
        self._weights = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}

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
        order, path = len(self.calls), tuple(self._running)
        if x.dim() != 4:
            self.calls.append(Call(order, path, 0, (0, 0), (0, 0), mode, x.device, f'no map (B, C, H, W), but {tuple(x.shape)}'))
            return
        have, want = (int(x.shape[2]), int(x.shape[3])), target_size(x, size, scale_factor)
        want = (int(want[0]), int(want[1]))
        self.calls.append(Call(order, path, x.shape[1], have, want, mode, x.device, self._why_not(x, have, want, mode)))

    def _why_not(self, x: Tensor, have: Size, want: Size, mode: str) -> str:
        if have == want:
            return 'the size stays'
        if want[0] <= have[0] and want[1] <= have[1]:
            return 'downsampling'
        if not x.is_floating_point():
            return f'no feature map, but {x.dtype}'
        if x.untyped_storage().data_ptr() in self._weights:
            return 'no feature map, but a parameter, as of a position embedding'
        if not x.requires_grad:
            return 'no feature map: nothing that is trained comes before it'
        if mode not in SMOOTH:
            return f'{mode!r} is no upsampling of maps'
        if min(have) == 1:
            return 'a single row or column has nothing to sample between'
        if not integer_ratio(have, want):
            return f'{have[0]}x{have[1]} to {want[0]}x{want[1]} is no integer ratio'
        return ''


def record_calls(model: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[list[Call], Counter[str]]:
    """Run a model once and note where it interpolates.

    It runs in evaluation mode, with gradients, and is left as it was: weights, statistics, gradients, modes and random numbers.

    Returns:
        The calls, and how often each module ran, by its name.

    Raises:
        ValueError: The model does not run on these inputs.
    """
    recorder = Recorder(model)
    with ExitStack() as stack:
        stack.enter_context(_trainable_in_evaluation(model))
        stack.enter_context(torch.random.fork_rng())
        for name, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(lambda *_, name=name: recorder.enter(name)).remove)
            stack.callback(module.register_forward_hook(lambda *_: recorder.leave()).remove)
        stack.enter_context(torch.enable_grad())
        stack.enter_context(recorder)
        try:
            model(*args, **kwargs)
        except Exception as error:
            raise ValueError(f'{type(model).__name__} does not run on the example inputs: {type(error).__name__}: {error}') from error
    return recorder.calls, recorder.runs


@contextmanager
def _trainable_in_evaluation(model: nn.Module) -> Iterator[None]:
    """Every parameter asks for gradients, so that whatever depends on one shows it; and no statistics change."""
    modes = {module: module.training for module in model.modules()}
    frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
    try:
        model.eval()
        for p in frozen:
            p.requires_grad_(True)
        yield
    finally:
        for p in frozen:
            p.requires_grad_(False)
        for module, training in modes.items():
            module.training = training


def as_arguments(example_inputs: Union[Tensor, Sequence, dict[str, Any]]) -> Arguments:
    """Positional and keyword arguments of a model from what a user gives: a tensor, a tuple or list of arguments, or a dict."""
    if isinstance(example_inputs, dict):
        return (), example_inputs
    return (tuple(example_inputs) if isinstance(example_inputs, (tuple, list)) else (example_inputs,)), {}
