"""Calls of the kernels: memory, strides, and how the work is cut into programs."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Optional

import torch
from torch import Tensor

from mmdysample.functional.layout import output_format

from . import sampling

# Pixels and channels that a program has at once, by what lies side by side in memory. So the kernels take 40 to 64 registers of a thread,
# that of the gradients 94 to 128 (compiled for compute capability 9.0), and more programs fit beside each other than with larger blocks.
# The interpreter takes its time for each program, not for each number.
BLOCKS = {torch.contiguous_format: (128, 4), torch.channels_last: (4, 64)}
BLOCKS_OF_GRADIENTS = {torch.contiguous_format: (128, 2), torch.channels_last: (4, 64)}
INTERPRETED = (2048, 64)
# What 32 bits count.
LARGEST = 2**31 - 1


class Call:
    """What all kernels are told about a call, in the order in which they take it.

    Args:
        x: The map ``(B, C, H, W)``.
        offset: Raw, ``(B, 2*g*s*s, H, W)``.
        scope: Raw, of the same shape; None for a static scope.
        position: ``2*g*s*s`` numbers.
        scope_factor: How far the points reach.
        s: The scale factor.
        groups: The number of groups ``g``.
    """

    def __init__(
        self, x: Tensor, offset: Tensor, scope: Optional[Tensor], position: Tensor, scope_factor: float, s: int, groups: int
    ) -> None:
        self.x = x
        # Gradients lie as what they are of, which must therefore be dense.
        self.offset = offset.contiguous(memory_format=output_format(offset))
        self.scope = None if scope is None else scope.contiguous(memory_format=output_format(scope))
        self.s, self.groups = s, groups
        self.batch, self.channels, self.height, self.width = x.shape
        # A pointer is needed even if nothing is read there.
        unread = self.offset if self.scope is None else self.scope
        self.points = (self.offset, unread, position.to(torch.float32).contiguous())
        self.scope_factor = scope_factor
        self.point_strides = (*self.offset.stride(), *unread.stride())
        self.options: dict[str, Any] = {'S': s, 'DYNAMIC': scope is not None}

    @property
    def share(self) -> int:
        """Channels of a group."""
        return self.channels // self.groups

    def blocks(self, table: dict[torch.memory_format, tuple[int, int]]) -> tuple[int, int]:
        """How many pixels and channels a program has at once."""
        pixels, channels = table[output_format(self.x)] if self.x.is_cuda else INTERPRETED
        return pixels, min(channels, 1 << (self.share - 1).bit_length())

    def grid(self, pixels: int, at_once: int) -> tuple[int, int]:
        """How many programs there are for pixels of a group and, with those for the groups of all images, in all."""
        blocks = -(-pixels // at_once)
        return blocks, blocks * self.batch * self.groups

    def wide(self, *maps: Tensor) -> bool:
        """Whether a group of one image spans more than 32 bits count in one of some maps, or what the layers say of them does."""
        spans = [(self.share, map) for map in maps] + [
            (points.shape[1], points) for points in (self.offset, self.scope) if points is not None
        ]
        return any(_span(channels, t) > LARGEST for channels, t in spans)

    def on_device(self) -> AbstractContextManager:
        """Triton launches on the current device, whichever the tensors are on."""
        return torch.cuda.device(self.x.device) if self.x.is_cuda else nullcontext()


def _span(channels: int, t: Tensor) -> int:
    """How far the last of some channels of an image reaches beyond the first number of the first."""
    _, *strides = t.stride()
    return sum((size - 1) * stride for size, stride in zip((channels, *t.shape[2:]), strides))


def sample_fused(x: Tensor, offset: Tensor, scope: Optional[Tensor], position: Tensor, scope_factor: float, s: int, groups: int) -> Tensor:
    """:func:`mmdysample.functional.operators.sample` by a kernel."""
    call = Call(x, offset, scope, position, scope_factor, s, groups)
    shape = (call.batch, call.channels, s * call.height, s * call.width)
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=output_format(x))
    if not y.numel():
        return y
    pixels, channels = call.blocks(BLOCKS)
    blocks, programs = call.grid(y.shape[2] * y.shape[3], pixels)
    with call.on_device():
        sampling.sample[(programs,)](
            x, *call.points, y, scope_factor,
            *x.stride(), *call.point_strides, *y.stride(),
            blocks, groups, call.share, call.height, call.width,
            **call.options, WIDE=call.wide(x, y), PIXELS=pixels, CHANNELS=channels,
        )  # fmt: skip
    return y


def sample_fused_backward(
    grad: Tensor,
    x: Tensor,
    offset: Tensor,
    scope: Optional[Tensor],
    position: Tensor,
    scope_factor: float,
    s: int,
    groups: int,
    of_x: bool,
    of_points: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`mmdysample.functional.operators.sample_backward` by kernels.

    What reaches a pixel of the map is added up in whatever order programs come to it; under ``torch.use_deterministic_algorithms``, in the
    same order always, which is slower.
    """
    call = Call(x, offset, scope, position, scope_factor, s, groups)
    gather = of_x and torch.are_deterministic_algorithms_enabled()
    scatter = of_x and not gather
    grad_x, grad_offset, grad_scope = (x.new_empty(0) for _ in range(3))
    if scatter:
        # Atomic additions are exact enough, and fast, in float32.
        grad_x = torch.zeros_like(x, dtype=torch.float32, memory_format=output_format(x))
    if of_points:
        grad_offset = torch.empty_like(call.offset)
        if call.scope is not None:
            grad_scope = torch.empty_like(call.scope)
    if not grad.numel():
        return torch.zeros_like(x, memory_format=output_format(x)) if of_x else grad_x, grad_offset, grad_scope
    pixels, channels = call.blocks(BLOCKS_OF_GRADIENTS)
    blocks, programs = call.grid(grad.shape[2] * grad.shape[3], pixels)
    with call.on_device():
        if scatter or of_points:
            unwritten = call.offset
            wide = call.wide(x, grad, *([grad_x] if scatter else []))
            sampling.sample_backward[(programs,)](
                x, *call.points, grad, *(g if g.numel() else unwritten for g in (grad_x, grad_offset, grad_scope)), scope_factor,
                *x.stride(), *call.point_strides, *grad.stride(), *(grad_x.stride() if scatter else (0, 0, 0, 0)),
                blocks, groups, call.share, call.height, call.width,
                **call.options, WIDE=wide, OF_X=scatter, OF_POINTS=of_points, PIXELS=pixels, CHANNELS=channels,
            )  # fmt: skip
        if gather:
            grad_x = _gathered(call, grad)
    return grad_x.to(x.dtype), grad_offset, grad_scope


def _gathered(call: Call, grad: Tensor) -> Tensor:
    """The gradient of the map, each number by one program: the points are first sorted by where they are."""
    pixels, channels = call.blocks(BLOCKS)
    parts, cells = call.batch * call.groups, call.height * call.width
    points = grad.shape[2] * grad.shape[3]
    cell = torch.empty(parts, points, dtype=torch.int32, device=grad.device)
    blocks, programs = call.grid(points, pixels)
    sampling.locate[(programs,)](
        *call.points, cell, call.scope_factor, *call.point_strides,
        blocks, call.groups, call.height, call.width,
        **call.options, WIDE=call.wide(), PIXELS=pixels,
    )  # fmt: skip
    cell, order = torch.sort(cell, stable=True)
    every = torch.arange(cells + 1, dtype=torch.int32, device=grad.device).expand(parts, -1).contiguous()
    starts = torch.searchsorted(cell, every, out_int32=True)
    grad_x = torch.empty_like(call.x, memory_format=output_format(call.x))
    blocks, programs = call.grid(cells, pixels)
    sampling.gather_gradient[(programs, -(-call.share // channels))](
        *call.points, grad, grad_x, order.to(torch.int32), starts, call.scope_factor,
        *call.point_strides, *grad.stride(), *grad_x.stride(),
        blocks, call.groups, call.share, call.height, call.width,
        **call.options, WIDE=call.wide(grad, grad_x), PIXELS=pixels, CHANNELS=channels,
    )  # fmt: skip
    return grad_x
