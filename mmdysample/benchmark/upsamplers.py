"""Measure time, memory, parameters and multiplications of upsamplers."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Optional

import torch
from torch import Tensor, nn

from mmdysample.catalogue.capabilities import make
from mmdysample.catalogue.flops import count_multiplications
from mmdysample.catalogue.model_size import count_parameters
from mmdysample.engine.upsampler import parse_upsampler, upsampler_name
from mmdysample.terminal.progress import progress
from mmdysample.upsamplers.builder import UpsampleConfig, resolve

from .environment import DTYPES, Environment
from .memory import fitting, peak_memory
from .passes import PASSES, Inputs, Subject
from .timing import Call, Clock, Timing, in_a_word, interleaved, make_clock
from .unfold import Unfolding, reassembles

REFERENCE = 'bilinear'
SIZE = (1, 256, 120, 120)  # the size of the paper's Figure 1
SCALE_FACTOR = 2
ROUNDS, SECONDS = 7, 10.0
UNFOLD_ROUNDS = 3

# Iterates over items and shows the progress under a ``label``.
Show = Callable[..., Iterable[Any]]


@dataclass(frozen=True)
class Cost:
    """The cost of a pass.

    Args:
        time: Time in milliseconds.
        memory: Peak memory in bytes, beyond that held before the call.
        unfold: Time of the unfold formulation divided by this time; None if it was not measured, or there is no such formulation.
    """

    time: Timing
    memory: int
    unfold: Optional[float] = None


@dataclass(frozen=True)
class Measured:
    """The measurement of an upsampler.

    Args:
        name: Name of the upsampler.
        parameters: Number of parameters; None if it could not be built.
        multiplications: Multiplications of a call; None if it could not be built.
        costs: Costs by pass, a key of ``PASSES``; a pass that failed is missing.
        error: The reason for missing costs, otherwise empty.
    """

    name: str
    parameters: Optional[int]
    multiplications: Optional[int]
    costs: dict[str, Cost]
    error: str = ''


def measure_upsamplers(
    upsamplers: Sequence[str],
    size: tuple[int, int, int, int] = SIZE,
    scale_factor: int = SCALE_FACTOR,
    environment: Optional[Environment] = None,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    unfold: bool = False,
    clock: Optional[Clock] = None,
    show: Show = progress,
) -> list[Measured]:
    """Measure upsamplers in one run with interleaved calls.

    Args:
        upsamplers: Names, or dicts in Python syntax, as for ``--upsampler``. ``bilinear`` is always measured, as the reference.
        size: ``(B, C, H, W)`` of the map; a guide has ``(B, C, s*H, s*W)``.
        scale_factor: The upsampling ratio ``s``.
        environment: The environment; by default, float32 on the CPU.
        rounds: Minimum number of timed calls of each upsampler.
        seconds: Approximate duration of each pass.
        unfold: Whether to measure the unfold formulation of reassembly as well.
        clock: The function that times a call; by default, that of the device.
        show: A function that iterates over items and shows the progress.

    Returns:
        A row for each upsampler; ``bilinear`` is the first unless it is in the list. An upsampler that cannot be built for that size, or
        fails on that device or in that dtype, has an error in its row.

    Raises:
        ValueError: An upsampler is unknown, or the map does not fit in memory.
    """
    environment = environment or Environment.here()
    device = environment.device
    configs = _named(upsamplers)
    with fitting(size):
        inputs, gradient = _tensors(size, scale_factor, environment)
    subjects: dict[str, Subject] = {}
    counts: dict[str, tuple[Optional[int], Optional[int]]] = dict.fromkeys(configs, (None, None))
    errors: dict[str, dict[str, str]] = {name: {} for name in configs}
    for name, config in configs.items():
        try:
            module = make(config, size[1], scale_factor)
            multiplications = size[0] * count_multiplications(make(config, size[1], scale_factor), *size[2:], size[1], scale_factor)
            counts[name] = count_parameters(module), multiplications
            module = module.to(device, DTYPES[environment.dtype])
        except Exception as error:  # any error means that it does not support this size, ratio or dtype
            errors[name][''] = in_a_word(error)
            continue
        called = inputs if getattr(module, 'guided', False) else inputs[:1]
        if environment.compiled:
            module = Whole(module)
            module.compile(fullgraph=True, dynamic=False)
        subjects[name] = Subject(module, called, gradient)

    costs: dict[str, dict[str, Cost]] = {name: {} for name in configs}
    clock = clock or make_clock(device)
    with environment.applied(), _many_graphs():
        for label, run in PASSES.items():
            calls = {name: run(subject) for name, subject in subjects.items()}
            times, failed = interleaved(calls, clock, rounds, seconds, partial(show, label=label))
            for name, why in failed.items():
                errors[name][label] = why
            for name in show(times, f'{label}, memory'):
                costs[name][label] = Cost(Timing.of(times[name]), peak_memory(calls[name], device))
            if unfold:
                for name in show(list(times), f'{label}, by unfolding'):
                    ratio, why = _unfold_ratio(subjects[name], calls[name], run, clock, scale_factor)
                    costs[name][label] = replace(costs[name][label], unfold=ratio)
                    if why:
                        errors[name][f'{label}, by unfolding'] = why
    return [Measured(name, *counts[name], costs[name], _sentence(errors[name])) for name in configs]


class Whole(nn.Module):
    """A wrapper for compilation, because torch does not compile one of its own modules, such as ``nn.Upsample``, without a caller."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Tensor:
        """Upsample as the module does."""
        return self.module(*inputs)


def _named(upsamplers: Sequence[str]) -> dict[str, UpsampleConfig]:
    """Return the configs by name, with the reference first if it is not among them."""
    configs = [resolve(parse_upsampler(text))[0] for text in upsamplers]
    named: dict[str, UpsampleConfig] = {upsampler_name(config): config for config in configs}
    return named if REFERENCE in named else {REFERENCE: {'type': REFERENCE}, **named}


def _tensors(size: tuple[int, int, int, int], scale_factor: int, environment: Environment) -> tuple[Inputs, Tensor]:
    """Return a map and a guide, and a gradient of the output."""
    torch.manual_seed(0)
    fine = (*size[:2], scale_factor * size[2], scale_factor * size[3])
    x, guide, gradient = (torch.randn(shape).to(environment.device, DTYPES[environment.dtype]) for shape in (size, fine, fine))
    return (x, guide), gradient


def _sentence(why: dict[str, str]) -> str:
    """Return one text for the reasons why an upsampler, or some of its passes, failed."""
    words = set(why.values())
    if len(words) == 1 and why.keys() & {'', 'forward'}:
        return words.pop()
    return '; '.join(f'{label}: {word}' for label, word in why.items())


def _many_graphs() -> Any:
    """Raise torch's recompilation limit, which is 8 per code object, because all modules share the code of ``Whole``."""
    import torch._dynamo.config as config

    name = 'recompile_limit' if hasattr(config, 'recompile_limit') else 'cache_size_limit'
    return config.patch({name: 256})


def _unfold_ratio(
    subject: Subject, call: Call, run: Callable[[Subject], Call], clock: Clock, scale_factor: int
) -> tuple[Optional[float], str]:
    """Return the time of the unfold formulation divided by that of a call, or None and the reason of a failure."""
    if not reassembles(subject.module, subject.inputs, scale_factor):
        return None, ''
    unfolding: nn.Module = Unfolding(subject.module)
    unfolded = run(Subject(unfolding, subject.inputs, subject.gradient))
    times, failed = interleaved({'ours': call, 'unfold': unfolded}, clock, UNFOLD_ROUNDS)
    if failed:
        return None, '; '.join(failed.values())
    return statistics.median(times['unfold']) / statistics.median(times['ours']), ''
