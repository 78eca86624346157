"""Launch the kernels: allocate the outputs, pass the strides and divide the work into programs (Triton's word for thread blocks)."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Optional

import torch
from torch import Tensor

from mmdysample.functional.layout import output_format

from . import sampling

# (pixels, channels) that a program processes at once, for each kernel and memory format of the map.
BlockSizes = Mapping[str, Mapping[torch.memory_format, tuple[int, int]]]

# With these sizes, the forward kernel takes 40 to 64 registers per thread and the backward kernel 94 to 128 (compiled for compute
# capability 9.0), so more programs run at the same time than with larger blocks. `python tools/benchmark.py blocks` times others.
BLOCKS: BlockSizes = {
    'sample': {torch.contiguous_format: (128, 4), torch.channels_last: (4, 64)},
    'sample_backward': {torch.contiguous_format: (128, 2), torch.channels_last: (4, 64)},
    'gather_gradient': {torch.contiguous_format: (128, 4), torch.channels_last: (4, 64)},  # `locate` takes its pixels
}
# The interpreter's time depends on the number of programs and not on their size, so its blocks are large.
INTERPRETED: BlockSizes = {kernel: dict.fromkeys(sizes, (2048, 64)) for kernel, sizes in BLOCKS.items()}
# The largest signed 32-bit integer.
LARGEST = 2**31 - 1


class Call:
    """The arguments that all kernels share, in the order in which the kernels take them.

    Args:
        x: The map ``(B, C, H, W)``.
        offset: The output of the offset layer, ``(B, 2*g*s*s, H, W)``.
        scope: The output of the scope layer, of the same shape; None for a static scope.
        position: The points for a zero offset, a tensor of ``2*g*s*s`` elements.
        scope_factor: As in :func:`~mmdysample.functional.sampling_offset`.
        s: The scale factor.
        groups: The number of groups ``g``.
        block_sizes: By default, ``BLOCKS``, or ``INTERPRETED`` on the CPU.
    """

    def __init__(
        self,
        x: Tensor,
        offset: Tensor,
        scope: Optional[Tensor],
        position: Tensor,
        scope_factor: float,
        s: int,
        groups: int,
        block_sizes: Optional[BlockSizes] = None,
    ) -> None:
        self.x = x
        self.block_sizes = block_sizes or (BLOCKS if x.is_cuda else INTERPRETED)
        # Each gradient has the strides of its tensor, so the tensor must be contiguous.
        self.offset = offset.contiguous(memory_format=output_format(offset))
        self.scope = None if scope is None else scope.contiguous(memory_format=output_format(scope))
        self.s, self.groups = s, groups
        self.batch, self.channels, self.height, self.width = x.shape
        # The kernels need a pointer for the scope, even though they do not read it when the scope is static.
        unread = self.offset if self.scope is None else self.scope
        self.points = (self.offset, unread, position.to(torch.float32).contiguous())
        self.scope_factor = scope_factor
        self.point_strides = (*self.offset.stride(), *unread.stride())
        self.options: dict[str, Any] = {'S': s, 'DYNAMIC': scope is not None}

    @property
    def share(self) -> int:
        """The number of channels in a group."""
        return self.channels // self.groups

    def block(self, kernel: str) -> tuple[int, int]:
        """Return how many pixels and channels a program of a kernel processes at once."""
        pixels, channels = self.block_sizes[kernel][output_format(self.x)]
        return pixels, min(channels, 1 << (self.share - 1).bit_length())

    def grid(self, pixels: int, at_once: int) -> tuple[int, int]:
        """Return the number of programs for the pixels of one group of one image, and the number for all groups of all images.

        Args:
            pixels: The number of pixels of the map that the programs divide among them.
            at_once: The number of pixels that a program processes.
        """
        blocks = -(-pixels // at_once)
        return blocks, blocks * self.batch * self.groups

    def wide(self, *maps: Tensor) -> bool:
        """Return True if the kernels must index with 64 bits.

        This is so if the elements of one group of one image lie more than ``2**31 - 1`` elements apart in one of ``maps``, or if the
        elements of one image do in the raw offset or scope.
        """
        spans = [(self.share, map) for map in maps] + [
            (points.shape[1], points) for points in (self.offset, self.scope) if points is not None
        ]
        return any(_span(channels, t) > LARGEST for channels, t in spans)

    def on_device(self) -> AbstractContextManager:
        """Return a context that makes the map's device current, because Triton launches on the current device."""
        return torch.cuda.device(self.x.device) if self.x.is_cuda else nullcontext()


def _span(channels: int, t: Tensor) -> int:
    """Return the distance, in elements, between the first and the last element of ``channels`` consecutive channels of an image."""
    _, *strides = t.stride()
    return sum((size - 1) * stride for size, stride in zip((channels, *t.shape[2:]), strides))


def sample_fused(
    x: Tensor,
    offset: Tensor,
    scope: Optional[Tensor],
    position: Tensor,
    scope_factor: float,
    s: int,
    groups: int,
    block_sizes: Optional[BlockSizes] = None,
) -> Tensor:
    """Compute :func:`mmdysample.functional.operators.sample` by a kernel."""
    call = Call(x, offset, scope, position, scope_factor, s, groups, block_sizes)
    shape = (call.batch, call.channels, s * call.height, s * call.width)
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=output_format(x))
    if not y.numel():
        return y
    pixels, channels = call.block('sample')
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
    block_sizes: Optional[BlockSizes] = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute :func:`mmdysample.functional.operators.sample_backward` by kernels.

    By default, the kernels add up the gradient of a pixel of the map in no fixed order. Under ``torch.use_deterministic_algorithms``, they
    add it up in a fixed order, which is slower.
    """
    call = Call(x, offset, scope, position, scope_factor, s, groups, block_sizes)
    gather = of_x and torch.are_deterministic_algorithms_enabled()
    scatter = of_x and not gather
    grad_x, grad_offset, grad_scope = (x.new_empty(0) for _ in range(3))
    if scatter:
        # Add up in float32, in which atomic additions are fast and accurate enough.
        grad_x = torch.zeros_like(x, dtype=torch.float32, memory_format=output_format(x))
    if of_points:
        grad_offset = torch.empty_like(call.offset)
        if call.scope is not None:
            grad_scope = torch.empty_like(call.scope)
    if not grad.numel():
        return torch.zeros_like(x, memory_format=output_format(x)) if of_x else grad_x, grad_offset.zero_(), grad_scope.zero_()
    pixels, channels = call.block('sample_backward')
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
    """Return the gradient of the map by a deterministic kernel, in which a single program computes each element.

    The sampling points are first sorted by the pixel at the upper left of them (their cell), so that a program finds the points that
    contribute to its pixels.
    """
    pixels, channels = call.block('gather_gradient')
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
