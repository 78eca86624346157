"""Check the Triton kernels against PyTorch operations before they are first used on a device.

A machine can lack what a kernel needs without any sign of it beforehand: a driver library to link, a writable cache, a ptxas that knows the
GPU. A compiler can also be wrong. One small case, forward and backward, shows both; it takes the time to compile two kernels, a few seconds
where Triton's cache is empty.
"""

from threading import Lock
from warnings import warn

import torch
from torch import Tensor

# The largest relative difference between kernels and PyTorch operations on the case below, which both compute in float32.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
# The reason the kernels are not used for a device and dtype, or an empty string; filled when they are first asked for. Deterministic
# algorithms, the third part of the key, have kernels of their own.
_results: dict[tuple[torch.device, torch.dtype, bool], str] = {}
_lock = Lock()


def why_broken(device: torch.device, dtype: torch.dtype) -> str:
    """Return the reason the kernels are not used for a device and dtype, or an empty string.

    The first call checks them and warns if they fail. While a compiler records or a CUDA graph is captured, nothing can be checked, so only
    a remembered result counts.
    """
    key = device, dtype, torch.are_deterministic_algorithms_enabled()
    if torch.compiler.is_compiling() or torch.cuda.is_current_stream_capturing():
        return _results.get(key, '')
    with _lock:
        if key in _results:
            return _results[key]
        _results[key] = reason = check(device, dtype)
        if reason:
            warn(f'mmdysample samples by PyTorch operations on {device}, because the kernels failed: {reason}', stacklevel=2)
        return reason


def check(device: torch.device, dtype: torch.dtype) -> str:
    """Compute a small case by the kernels and by PyTorch operations; return how they fail or differ, or an empty string."""
    try:
        for name, got, expected in zip(
            ('output', 'gradient of the map', 'gradient of the offset', 'gradient of the scope'), *_both(device, dtype)
        ):
            difference = ((got - expected).abs().max() / expected.abs().max()).item()
            if not difference < TOLERANCE[dtype]:  # NaN is a difference
                return f'the {name} differs by {difference:.0e} of the largest value'
    except Exception as error:  # whatever a compiler, a linker or a driver raises
        lines = str(error).strip().splitlines()
        return f'{type(error).__name__}: {lines[-1][:200] if lines else ""}'
    return ''


def _both(device: torch.device, dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    """Return output and gradients by the kernels, and by PyTorch operations on the CPU: odd sizes, two groups, a dynamic scope.

    The CPU knows no deterministic mode that could refuse an operation, so that only the kernels can fail.
    """
    from .dysample import initial_position
    from .operators import sample, sample_backward

    cpu = torch.device('cpu')
    generator = torch.Generator(cpu).manual_seed(0)
    shapes = ((2, 6, 10, 14), (2, 6, 5, 7), (2, 16, 5, 7), (2, 16, 5, 7))
    tensors = [torch.randn(shape, generator=generator, device=cpu).to(dtype) for shape in shapes]
    results = []
    with torch.no_grad():
        for fused, where, wide in ((True, device, dtype), (False, cpu, torch.float32)):
            grad, *points = (t.to(where, wide) for t in tensors)
            arguments = (*points, initial_position(2, 2, where), 0.25, 2, 2, fused)
            outputs = (sample(*arguments), *sample_backward(grad, *arguments, True, True))
            results.append([t.to(cpu, torch.float32) for t in outputs])
    return results[0], results[1]
