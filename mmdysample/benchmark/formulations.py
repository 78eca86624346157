"""DySample's formulations side by side, beside bilinear interpolation and the least that any of them could take.

All compute the same numbers, which is checked first: one that does not, or cannot be had here, has a row that says so in place of a time.
"""

import os
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Optional

import torch
from torch import Tensor, nn

from mmdysample.engine.errors import show_traceback
from mmdysample.functional.paths import PATHS, choose_path
from mmdysample.terminal.progress import progress
from mmdysample.upsamplers import DySample, build_upsampler

from .environment import DTYPES, Environment
from .floor import bytes_to_move, copying, floor_time
from .memory import fitting, peak_memory
from .passes import PASSES, Subject
from .textbook import VARIANTS, Textbook
from .timing import Clock, Timing, in_a_word, interleaved, make_clock
from .upsamplers import REFERENCE, SCALE_FACTOR, SECONDS, SIZE, Show

SIZES = (SIZE, (4, 256, 200, 304), (16, 64, 32, 32))  # of the paper's Figure 1; P2 of an FPN in training; small and many
ROUNDS = 9
TEXTBOOK, COMPILED, FLOOR = 'textbook', 'textbook, compiled', 'floor'
COPY = 'copy'
OTHER_NUMBERS = 'other numbers than plain'
# Relative and absolute: for the rounding of coordinates in float32, and of layers and outputs in what is narrower.
TOLERANCE = {'float32': 1e-3, 'float16': 1e-2, 'bfloat16': 3e-2}


@dataclass(frozen=True)
class MeasuredFormulation:
    """What is known of a formulation in a pass.

    Args:
        size: ``(B, C, H, W)`` of the map.
        dtype: A key of ``DTYPES``.
        label: A key of ``PASSES``.
        name: ``'bilinear'``, ``'textbook'``, ``'textbook, compiled'``, one of DySample's paths, or ``'floor'``.
        time: In milliseconds; None if there is none.
        memory: Bytes held at its peak beyond those held before it; None for the floor, or if it failed.
        default: Whether it is the path that DySample takes there by itself.
        error: Why it failed.
    """

    size: tuple[int, ...]
    dtype: str
    label: str
    name: str
    time: Optional[Timing] = None
    memory: Optional[int] = None
    default: bool = False
    error: str = ''


def measure_formulations(
    name: str,
    sizes: Sequence[tuple[int, ...]] = SIZES,
    scale_factor: int = SCALE_FACTOR,
    environment: Optional[Environment] = None,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    clock: Optional[Clock] = None,
    show: Show = progress,
) -> list[MeasuredFormulation]:
    """Measure a variant's formulations in one run, their calls interleaved.

    Args:
        name: A key of ``VARIANTS``.
        sizes: ``(B, C, H, W)`` of the maps.
        scale_factor: The upsampling ratio ``s``.
        environment: How to compute; float32 on the CPU by default.
        rounds: Timed calls of each, at least.
        seconds: How long to go on calling, about, for each size and pass.
        clock: What times a call; by default the device's.
        show: Shows how far it is.

    Returns:
        A row for each size, pass and formulation.

    Raises:
        ValueError: A size does not fit the variant, or the memory does not suffice for a map.
    """
    environment = environment or Environment.here()
    clock = clock or make_clock(environment.device)
    measure = partial(interleaved, clock=clock, rounds=rounds, seconds=seconds)
    modules = [VARIANTS[name](size[1], scale_factor) for size in sizes]
    rows = []
    with environment.applied():
        for size, module in zip(sizes, modules):
            # Nothing that was compiled for another size is asked whether it fits, nor counts towards the number that torch compiles.
            torch.compiler.reset()
            with fitting(size):
                torch.manual_seed(0)
                nn.init.normal_(module.offset.weight, std=0.05)
                module.to(environment.device, DTYPES[environment.dtype])
                x = torch.randn(size).to(environment.device, DTYPES[environment.dtype])
                gradient = torch.randn(*size[:2], scale_factor * size[2], scale_factor * size[3]).to(x)
                target = torch.empty_like(gradient)
            for label in PASSES:
                rows += _measure_pass(module, x, gradient, target, label, environment, measure, show)
    return rows


def _measure_pass(
    module: DySample,
    x: Tensor,
    gradient: Tensor,
    target: Tensor,
    label: str,
    environment: Environment,
    measure: Callable[..., tuple[dict[str, list[float]], dict[str, str]]],
    show: Show,
) -> list[MeasuredFormulation]:
    """The rows of a pass at a size; ``target`` is what the output's gradient is copied to."""
    size, device, s = tuple(x.shape), environment.device, module.scale_factor
    title = f'{"x".join(map(str, size))} {environment.dtype}, {label}'
    subjects = {name: Subject(made, (x,), gradient) for name, made in formulations(module).items()}
    failed = {'fused': why} if (why := why_not_timed(device)) else {}
    calls = {name: PASSES[label](subject) for name, subject in subjects.items() if name not in failed}
    training = label != 'forward'
    failed |= _disagreeing({name: subjects[name] for name in calls}, training, TOLERANCE[environment.dtype], partial(show, label=title))
    calls = {name: call for name, call in calls.items() if name not in failed}
    times, broken = measure({**calls, COPY: copying(gradient, target)}, watch=partial(show, label=title))
    failed |= broken
    timings = {name: Timing.of(values) for name, values in times.items()}
    memory = {name: peak_memory(calls[name], device) for name in show([n for n in calls if n in times], f'{title}, memory')}
    moved = bytes_to_move(size, s, x.element_size())[label]
    timings[FLOOR] = floor_time(timings[COPY], gradient.nbytes, moved)
    default = choose_path(x, scale_factor=s, training=training)
    return [
        MeasuredFormulation(
            size, environment.dtype, label, name, timings.get(name), memory.get(name), name == default, failed.get(name, '')
        )
        for name in (*subjects, FLOOR)
    ]


def why_not_timed(device: str) -> str:
    """Why kernels cannot be timed, in a few words; empty if they can. What Triton's interpreter takes says nothing of them."""
    if device == 'cpu':
        return 'not on CPU'
    return "in Triton's interpreter" if os.environ.get('TRITON_INTERPRET') == '1' else ''


def formulations(module: DySample) -> dict[str, nn.Module]:
    """Modules that compute what a DySample does, with its weights, and bilinear interpolation."""
    paths = {path: deepcopy(module) for path in PATHS}
    for path, taken in paths.items():
        taken.path = path
    compiled = Textbook(deepcopy(module))
    compiled.compile(fullgraph=True, dynamic=False)
    bilinear = build_upsampler(REFERENCE, module.in_channels, module.scale_factor)
    return {REFERENCE: bilinear, TEXTBOOK: Textbook(deepcopy(module)), COMPILED: compiled, **paths}


def _disagreeing(subjects: dict[str, Subject], training: bool, tolerance: float, watch: Show) -> dict[str, str]:
    """Why formulations fail, or that their numbers are not those of the plain path. Compiles, too."""
    with torch.set_grad_enabled(training):
        with fitting(subjects['plain'].inputs[0].shape):
            expected = _output(subjects['plain'], training)
        why = {}
        for name in watch([name for name in subjects if name not in (REFERENCE, 'plain')]):
            try:
                out = _output(subjects[name], training)
            except Exception as error:  # whatever it is, it cannot be had here
                if show_traceback():
                    raise
                why[name] = in_a_word(error)
                continue
            # Image by image: a comparison holds several maps as large as the output.
            if not all(torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance) for ours, theirs in zip(out, expected)):
                why[name] = OTHER_NUMBERS
    return why


def _output(subject: Subject, training: bool) -> Tensor:
    """The output in a pass, without what a backward pass would need."""
    return subject.module(*(x.detach().requires_grad_(training) for x in subject.inputs)).detach()
