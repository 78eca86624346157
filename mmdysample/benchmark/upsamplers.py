"""Time, memory, parameters and multiplications of upsamplers side by side."""

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
SIZE = (1, 256, 120, 120)  # of the paper's Figure 1
SCALE_FACTOR = 2
ROUNDS, SECONDS = 7, 10.0
UNFOLD_ROUNDS = 3

# Goes through something and shows how far it is, under a ``label``.
Show = Callable[..., Iterable[Any]]


@dataclass(frozen=True)
class Cost:
    """What a pass takes.

    Args:
        time: In milliseconds.
        memory: Bytes held at its peak beyond those held before it.
        unfold: How many times as long it takes by unfolding; None where nothing can be unfolded, or nobody asked.
    """

    time: Timing
    memory: int
    unfold: Optional[float] = None


@dataclass(frozen=True)
class Measured:
    """What is known of an upsampler.

    Args:
        name: Its name.
        parameters: Their number; None if it could not be built.
        multiplications: Of a call; None if it could not be built.
        costs: By the names of ``PASSES``; a pass that failed has none.
        error: Why there are none.
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
    """Measure upsamplers in one run, their calls interleaved.

    Args:
        upsamplers: Names, or dicts in Python syntax, as ``--upsampler`` takes them; ``bilinear`` is measured in any case, because what
            the others take is compared with it.
        size: ``(B, C, H, W)`` of the map; a guide has ``(B, C, s*H, s*W)``.
        scale_factor: The upsampling ratio ``s``.
        environment: How to compute; float32 on the CPU by default.
        rounds: Timed calls of each, at least.
        seconds: How long to go on calling, about, for each pass.
        unfold: Whether to measure the unfold formulation of what reassembles, too.
        clock: What times a call; by default the device's.
        show: Shows how far it is.

    Returns:
        A row for each, ``bilinear`` first unless it has a place of its own. What cannot be built for that size, or fails on that device or
        in that dtype, has an error in its row.

    Raises:
        ValueError: An upsampler is unknown, or the memory does not suffice for the map.
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
        except Exception as error:  # whatever it is, it cannot be had at this size, ratio or dtype
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
    """An upsampler within a module, because torch compiles nothing of one that is its own, such as ``nn.Upsample``, alone."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Tensor:
        """Upsample as the module does."""
        return self.module(*inputs)


def _named(upsamplers: Sequence[str]) -> dict[str, UpsampleConfig]:
    """Configs by their names, with the one that all are compared with."""
    configs = [resolve(parse_upsampler(text))[0] for text in upsamplers]
    named: dict[str, UpsampleConfig] = {upsampler_name(config): config for config in configs}
    return named if REFERENCE in named else {REFERENCE: {'type': REFERENCE}, **named}


def _tensors(size: tuple[int, int, int, int], scale_factor: int, environment: Environment) -> tuple[Inputs, Tensor]:
    """A map and a guide, and a gradient of the output."""
    torch.manual_seed(0)
    fine = (*size[:2], scale_factor * size[2], scale_factor * size[3])
    x, guide, gradient = (torch.randn(shape).to(environment.device, DTYPES[environment.dtype]) for shape in (size, fine, fine))
    return (x, guide), gradient


def _sentence(why: dict[str, str]) -> str:
    """Why an upsampler, or some of its passes, failed."""
    words = set(why.values())
    if len(words) == 1 and why.keys() & {'', 'forward'}:
        return words.pop()
    return '; '.join(f'{label}: {word}' for label, word in why.items())


def _many_graphs() -> Any:
    """All modules share the code of ``Whole``, and torch compiles a piece of code for no more than eight of them unless told otherwise."""
    import torch._dynamo.config as config

    name = 'recompile_limit' if hasattr(config, 'recompile_limit') else 'cache_size_limit'
    return config.patch({name: 256})


def _unfold_ratio(
    subject: Subject, call: Call, run: Callable[[Subject], Call], clock: Clock, scale_factor: int
) -> tuple[Optional[float], str]:
    """How many times as long a call takes by unfolding; None where nothing can be unfolded, or where it fails, and why."""
    if not reassembles(subject.module, subject.inputs, scale_factor):
        return None, ''
    unfolding: nn.Module = Unfolding(subject.module)
    unfolded = run(Subject(unfolding, subject.inputs, subject.gradient))
    times, failed = interleaved({'ours': call, 'unfold': unfolded}, clock, UNFOLD_ROUNDS)
    if failed:
        return None, '; '.join(failed.values())
    return statistics.median(times['unfold']) / statistics.median(times['ours']), ''
