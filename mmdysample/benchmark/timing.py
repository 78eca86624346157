"""Time calls in interleaved rounds, so that other load on the machine affects all of them alike."""

import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch

from mmdysample.engine.errors import one_line, show_traceback

Call = Callable[[], object]
Clock = Callable[[Call], float]  # runs a call and returns its milliseconds
Watch = Callable[[Iterable[int]], Iterable[int]]  # iterates over rounds and shows the progress

# Bytes that are overwritten before each call on CUDA: more than the L2 cache of any NVIDIA GPU to date.
FLUSHED_BYTES = 256 * 2**20
# The warm-up, as a share of the measured time. It lets clock frequencies and allocators settle.
WARM_UP = 0.1
SHORTEST_ROUND = 1e-3  # seconds; bounds the number of rounds


@dataclass(frozen=True)
class Timing:
    """Median and quartiles of several times, in milliseconds.

    Args:
        q1: The first quartile.
        median: The median.
        q3: The third quartile.
        calls: The number of times.
    """

    q1: float
    median: float
    q3: float
    calls: int

    @classmethod
    def of(cls, values: Sequence[float]) -> 'Timing':
        """Summarise one or more times."""
        q1, median, q3 = statistics.quantiles(values, n=4, method='inclusive') if len(values) > 1 else [values[0]] * 3
        return cls(q1, median, q3, len(values))


def cpu_clock(call: Call) -> float:
    """Run a call and return its wall time in milliseconds."""
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


class CUDAClock:
    """Measure the time between two CUDA events around a call, with a cold L2 cache.

    Without the flush, the content of the cache would depend on the previous call. The CPU does not wait for the flush, so that the launch
    of the first kernels overlaps with it, as within a network.
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
    """Return the clock for a device, ``'cpu'`` or ``'cuda'``."""
    return CUDAClock() if device == 'cuda' else cpu_clock


def interleaved(
    calls: dict[str, Call], clock: Clock, rounds: int, seconds: float = 0.0, watch: Watch = iter
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Time calls in rounds, each round in another random order, after a warm-up of at least two rounds.

    Small maps need many rounds, because their times vary widely with the content of the caches.

    Args:
        calls: The calls by name.
        clock: The function that times a call.
        rounds: Minimum number of rounds.
        seconds: Approximate duration, if that gives more rounds.
        watch: A function that iterates over the rounds.

    Returns:
        The times in milliseconds by name, and the reason of each failed call by name. A call that fails is not called again.
    """
    order = random.Random(0)
    alive, failed = dict(calls), {}

    def one_round() -> dict[str, float]:
        taken = {}
        # The order is random, because each call affects the next through the caches and the allocator.
        for name in order.sample(list(alive), len(alive)):
            try:
                taken[name] = clock(alive[name])
            except Exception as error:  # any error means that the call does not run here
                if show_traceback():
                    raise
                failed[name] = in_a_word(error)  # the error itself would keep tensors alive through its traceback
                del alive[name]
        return taken

    one_round()  # the first round compiles and allocates
    pace = max(sum(one_round().values()) / 1e3, SHORTEST_ROUND)
    for _ in range(int(WARM_UP * seconds / pace)):
        one_round()
    measured = [one_round() for _ in watch(range(max(rounds, int(seconds / pace))))] if alive else []
    return {name: [taken[name] for taken in measured] for name in alive}, failed


def in_a_word(error: Exception) -> str:
    """Return the reason of an error, short enough for the cell of a table."""
    text = one_line(error)
    if isinstance(error, torch.cuda.OutOfMemoryError) or 'not enough memory' in text or "can't allocate memory" in text:
        return 'out of memory'
    if 'not implemented for' in text:
        return text[text.index('not implemented for') :].rstrip('.')
    if isinstance(error, (ValueError, ImportError)):
        return text
    return f'{type(error).__name__}: {text[:80]}'
