"""Measure the peak memory of a call, and report maps that do not fit in memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.profiler import ProfilerActivity, profile

from mmdysample.engine.errors import show_traceback

from .timing import Call, in_a_word


@contextmanager
def fitting(size: Sequence[int]) -> Iterator[None]:
    """Turn torch's errors about a map that is too large into a ``ValueError`` of one line.

    Args:
        size: Size of the map, for the message.

    Raises:
        ValueError: The map does not fit in memory, or torch does not accept its size.
    """
    try:
        yield
    except (RuntimeError, TypeError) as error:
        if show_traceback():
            raise
        shape = 'x'.join(map(str, size))
        raise ValueError(f'cannot make a map of {shape} ({in_a_word(error)}): choose a smaller --size') from error


def peak_memory(call: Call, device: str = 'cpu') -> int:
    """Return the peak memory of a call in bytes, beyond the memory held before it.

    Args:
        call: The call. It runs twice, so that memory which the first run allocates and keeps is not counted.
        device: ``'cpu'``, measured by torch's profiler, or ``'cuda'``, measured by torch's allocator.
    """
    call()
    return _on_cuda(call) if device == 'cuda' else _on_cpu(call)


def _on_cpu(call: Call) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        call()
    held = peak = 0
    for event in prof.profiler.kineto_results.events():
        if event.name() == '[memory]':
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def _on_cuda(call: Call) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - held
