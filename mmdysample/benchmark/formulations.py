"""Measure the formulations of DySample beside bilinear interpolation and the floor, the time of the memory traffic alone.

The formulations are the paths of this package (the implementations in ``functional``) and the textbook formula, eager and compiled. Each
output is compared with that of the plain path first. A formulation that differs or fails has the reason in its row instead of a time.
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

SIZES = (SIZE, (4, 256, 200, 304), (16, 64, 32, 32))  # the size of the paper's Figure 1; P2 of an FPN in training; many small maps
ROUNDS = 9
TEXTBOOK, COMPILED, FLOOR = 'textbook', 'textbook, compiled', 'floor'
COPY = 'copy'
OTHER_NUMBERS = 'other numbers than plain'
# Relative and absolute tolerance: coordinates are rounded in float32; in narrower dtypes, layers and outputs are as well.
TOLERANCE = {'float32': 1e-3, 'float16': 1e-2, 'bfloat16': 3e-2}


@dataclass(frozen=True)
class MeasuredFormulation:
    """The measurement of a formulation in a pass.

    Args:
        size: ``(B, C, H, W)`` of the map.
        dtype: A key of ``DTYPES``.
        label: A key of ``PASSES``.
        name: ``'bilinear'``, ``'textbook'``, ``'textbook, compiled'``, one of DySample's paths, or ``'floor'``.
        time: In milliseconds; None if it failed.
        memory: Peak memory in bytes beyond that held before the call; None for the floor, or if it failed.
        default: Whether it is the path that DySample chooses by default in this case.
        error: The reason for a failure, otherwise empty.
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
    """Measure the formulations of a variant of DySample in one run with interleaved calls.

    Args:
        name: A key of ``VARIANTS``.
        sizes: ``(B, C, H, W)`` of the maps.
        scale_factor: The upsampling ratio ``s``.
        environment: The environment; by default, float32 on the CPU.
        rounds: Minimum number of timed calls of each formulation.
        seconds: Approximate duration for each size and pass.
        clock: The function that times a call; by default, that of the device.
        show: A function that iterates over items and shows the progress.

    Returns:
        A row for each size, pass and formulation.

    Raises:
        ValueError: The variant does not support the channels of a size, or a map does not fit in memory.
    """
    environment = environment or Environment.here()
    clock = clock or make_clock(environment.device)
    measure = partial(interleaved, clock=clock, rounds=rounds, seconds=seconds)
    modules = [VARIANTS[name](size[1], scale_factor) for size in sizes]
    rows = []
    with environment.applied():
        for size, module in zip(sizes, modules):
            # Drop what was compiled for other sizes: checking its guards takes time, and it counts towards torch's recompilation limit.
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
    """Return the rows of a pass at one size. The copy of the floor goes from ``gradient`` to ``target``."""
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
    """Return why kernels cannot be timed on a device, or an empty string. The time in Triton's interpreter would be meaningless."""
    if device == 'cpu':
        return 'not on CPU'
    return "in Triton's interpreter" if os.environ.get('TRITON_INTERPRET') == '1' else ''


def formulations(module: DySample) -> dict[str, nn.Module]:
    """Return the modules to compare, by name: bilinear interpolation, and the formulations of a DySample with copies of its weights."""
    paths = {path: deepcopy(module) for path in PATHS}
    for path, taken in paths.items():
        taken.path = path
    compiled = Textbook(deepcopy(module))
    compiled.compile(fullgraph=True, dynamic=False)
    bilinear = build_upsampler(REFERENCE, module.in_channels, module.scale_factor)
    return {REFERENCE: bilinear, TEXTBOOK: Textbook(deepcopy(module)), COMPILED: compiled, **paths}


def _disagreeing(subjects: dict[str, Subject], training: bool, tolerance: float, watch: Show) -> dict[str, str]:
    """Return the formulations that fail or differ from the plain path, with the reason. The first calls also compile."""
    with torch.set_grad_enabled(training):
        with fitting(subjects['plain'].inputs[0].shape):
            expected = _output(subjects['plain'], training)
        why = {}
        for name in watch([name for name in subjects if name not in (REFERENCE, 'plain')]):
            try:
                out = _output(subjects[name], training)
            except Exception as error:  # any error means that the formulation does not run here
                if show_traceback():
                    raise
                why[name] = in_a_word(error)
                continue
            # Compare image by image, because allclose allocates several tensors of the size of its arguments.
            if not all(torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance) for ours, theirs in zip(out, expected)):
                why[name] = OTHER_NUMBERS
    return why


def _output(subject: Subject, training: bool) -> Tensor:
    """Return the output in a pass, detached from its graph."""
    return subject.module(*(x.detach().requires_grad_(training) for x in subject.inputs)).detach()
