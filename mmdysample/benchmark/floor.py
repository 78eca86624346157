"""The least that an upsampler can take: the bytes that must move, at the pace at which this machine copies.

What the layers predict, and their weights, are left out: with 4 groups and x2 the offsets of a map of 256 channels are an eighth of it.
"""

from math import prod

from torch import Tensor

from .timing import Call, Timing

FORMULA = 'forward, read x and write y; forward + backward, also read grad y and x, and write grad x'


def bytes_to_move(size: tuple[int, ...], scale_factor: int, itemsize: int) -> dict[str, int]:
    """What must be read and written in each pass.

    Args:
        size: ``(B, C, H, W)`` of the map ``x``; its output ``y`` is ``(B, C, s*H, s*W)``.
        scale_factor: The upsampling ratio ``s``.
        itemsize: Bytes of a number.

    Returns:
        Bytes, by the names of ``PASSES``: ``x + y``, and ``(x + y) + (y + x + x)``.
    """
    x = prod(size) * itemsize
    y = scale_factor**2 * x
    return {'forward': x + y, 'forward + backward': (x + y) + (y + x + x)}


def copying(source: Tensor, target: Tensor) -> Call:
    """A copy between two tensors that are there: no page of them is touched for the first time."""
    return lambda: target.copy_(source)


def floor_time(copy: Timing, copied: int, moved: int) -> Timing:
    """How long it takes to move some bytes.

    Args:
        copy: Times of a copy.
        copied: The bytes of its source, each of which is read once and written once.
        moved: The bytes that are to be read or written.
    """
    share = moved / (2 * copied)
    return Timing(share * copy.q1, share * copy.median, share * copy.q3, copy.calls)
