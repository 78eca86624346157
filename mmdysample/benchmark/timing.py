"""Times of calls that are to be compared, so that whatever else the machine does meets all of them alike."""

import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch

from mmdysample.engine.errors import one_line, show_traceback

Call = Callable[[], object]
Clock = Callable[[Call], float]  # the milliseconds that a call takes
Watch = Callable[[Iterable[int]], Iterable[int]]  # goes through rounds and shows how far it is

# Overwritten before each call on CUDA: larger than the L2 cache of any NVIDIA GPU to date.
FLUSHED_BYTES = 256 * 2**20
# Of the time for which calls are measured, they are called unmeasured before, so that clocks and allocators settle.
WARM_UP = 0.1
SHORTEST_ROUND = 1e-3  # seconds; bounds the number of rounds


@dataclass(frozen=True)
class Timing:
    """The middle of some times and their spread, in milliseconds.

    Args:
        q1: The first quartile.
        median: The median.
        q3: The third quartile.
        calls: How many times there are.
    """

    q1: float
    median: float
    q3: float
    calls: int

    @classmethod
    def of(cls, values: Sequence[float]) -> 'Timing':
        """Sum up times, at least one."""
        q1, median, q3 = statistics.quantiles(values, n=4, method='inclusive') if len(values) > 1 else [values[0]] * 3
        return cls(q1, median, q3, len(values))


def cpu_clock(call: Call) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


class CUDAClock:
    """Time between two CUDA events around a call, its inputs in no cache.

    What a call finds in the L2 cache is otherwise left to what was called before. Nothing waits for the GPU between the flush and the call,
    so the first kernels are launched while it is still at it, as within a network.
    """

    def __init__(self) -> None:
        self.flushed = torch.empty(FLUSHED_BYTES, dtype=torch.int8, device='cuda')

    def __call__(self, call: Call) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flushed.zero_()
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)


def make_clock(device: str) -> Clock:
    """The clock for a device, ``'cpu'`` or ``'cuda'``."""
    return CUDAClock() if device == 'cuda' else cpu_clock


def interleaved(
    calls: dict[str, Call], clock: Clock, rounds: int, seconds: float = 0.0, watch: Watch = iter
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Time calls in rounds, each in an order of its own, after a warm-up of at least two rounds.

    Small maps need many rounds: their times spread widely with what the caches hold.

    Args:
        calls: What to call, by name.
        clock: What times a call.
        rounds: How many rounds, at least.
        seconds: How long to go on, about, if that is longer.
        watch: Goes through the rounds.

    Returns:
        The times in milliseconds, and why a call failed; one that does is left out from then on.
    """
    order = random.Random(0)
    alive, failed = dict(calls), {}

    def one_round() -> dict[str, float]:
        taken = {}
        # In any order: what a call leaves in caches and allocator is what the next one meets.
        for name in order.sample(list(alive), len(alive)):
            try:
                taken[name] = clock(alive[name])
            except Exception as error:  # whatever it is, it cannot be done here
                if show_traceback():
                    raise
                failed[name] = in_a_word(error)  # not the error itself, whose traceback holds tensors
                del alive[name]
        return taken

    one_round()  # compiles, allocates
    pace = max(sum(one_round().values()) / 1e3, SHORTEST_ROUND)
    for _ in range(int(WARM_UP * seconds / pace)):
        one_round()
    measured = [one_round() for _ in watch(range(max(rounds, int(seconds / pace))))] if alive else []
    return {name: [taken[name] for taken in measured] for name in alive}, failed


def in_a_word(error: Exception) -> str:
    """Why something cannot be done, short enough for the cell of a table."""
    text = one_line(error)
    if isinstance(error, torch.cuda.OutOfMemoryError) or 'not enough memory' in text or "can't allocate memory" in text:
        return 'out of memory'
    if 'not implemented for' in text:
        return text[text.index('not implemented for') :].rstrip('.')
    if isinstance(error, (ValueError, ImportError)):
        return text
    return f'{type(error).__name__}: {text[:80]}'
