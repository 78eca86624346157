"""The floor: the time that an upsampler takes at least, for the bytes it must move at the speed of a copy on this machine.

The bytes do not include the offsets and the weights. With 4 groups and x2, the offsets of a map of 256 channels have an eighth of its
size.
"""

from math import prod

from torch import Tensor

from .timing import Call, Timing

FORMULA = 'forward, read x and write y; forward + backward, also read grad y and x, and write grad x'


def bytes_to_move(size: tuple[int, ...], scale_factor: int, itemsize: int) -> dict[str, int]:
    """Return the bytes that each pass must read and write.

    Args:
        size: ``(B, C, H, W)`` of the map ``x``; its output ``y`` is ``(B, C, s*H, s*W)``.
        scale_factor: The upsampling ratio ``s``.
        itemsize: Bytes per value.

    Returns:
        Bytes by pass, a key of ``PASSES``: ``x + y`` forward, and ``(x + y) + (y + x + x)`` forward and backward.
    """
    x = prod(size) * itemsize
    y = scale_factor**2 * x
    return {'forward': x + y, 'forward + backward': (x + y) + (y + x + x)}


def copying(source: Tensor, target: Tensor) -> Call:
    """Return a call that copies between two allocated tensors, so that no time is spent on page faults."""
    return lambda: target.copy_(source)


def floor_time(copy: Timing, copied: int, moved: int) -> Timing:
    """Return the time for moving some bytes at the speed of a copy.

    Args:
        copy: The times of a copy.
        copied: The bytes of its source; the copy reads and writes each of them once.
        moved: The bytes to read or write.
    """
    share = moved / (2 * copied)
    return Timing(share * copy.q1, share * copy.median, share * copy.q3, copy.calls)
