"""Peak memory of a call, and maps for which there is none."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.profiler import ProfilerActivity, profile

from mmdysample.engine.errors import show_traceback

from .timing import Call, in_a_word


@contextmanager
def fitting(size: Sequence[int]) -> Iterator[None]:
    """Turn what a map makes torch raise that cannot be held, or called with, into one line.

    Raises:
        ValueError: There is no such map here.
    """
    try:
        yield
    except (RuntimeError, TypeError) as error:
        if show_traceback():
            raise
        shape = 'x'.join(map(str, size))
        raise ValueError(f'a map of {shape} cannot be had here ({in_a_word(error)}): take a smaller --size') from error


def peak_memory(call: Call, device: str = 'cpu') -> int:
    """Bytes held at the peak of a call beyond those held before it.

    Args:
        call: Called twice; what it allocates once and keeps is not counted.
        device: ``'cpu'``, where torch's profiler sees every allocation of torch, or ``'cuda'``, where torch's allocator keeps count.
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
