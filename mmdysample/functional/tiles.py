"""Reassembly and its two gradients, as batched matrix products over small tiles.

``y[c, o] = sum over n of weight[n, o] * x[c, n]`` is linear in ``x`` and in ``weight``. Three operators map two of these tensors to the
third: :func:`reassemble` computes ``y``, and its gradients are :func:`similarity` (for ``weight``) and :func:`spread` (for ``x``). The
gradients of each operator are the other two, so gradients of any order exist, and each operator saves only its inputs for the backward
pass. They are custom operators, which a compiler calls without changing them.

All three work on tiles of ``h x w`` coarse pixels. The neighbourhoods of a tile cover a *window* of ``(h+k-1) x (w+k-1)`` coarse pixels,
which is a matrix ``(C, K)``; the ``s*h x s*w`` fine pixels of the tile are a matrix ``(C, N)``. A matrix ``(K, N)``, called the *band*,
connects them: it holds the weight where the window's pixel is a neighbour of the fine pixel, and zero elsewhere. For ``k = 5``, ``s = 2``
and tiles of 4x4, 39 % of the band are weights: multiplying by the zeros costs less than the memory accesses that it saves. The tiles are
processed in *chunks* that fit into the CPU's cache.

Zero times NaN or infinity is NaN, so one such pixel would spread over its tile. A map that holds one is therefore computed tap by tap.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.library import custom_op

from . import taps

TILE = 4  # measured on CPU for k = 5 and s = 2: 4x4 is as fast as 3x4 and 4x8, and faster than smaller and larger tiles
# Elements in a chunk, including its band. A GPU needs few launches, so its chunks are larger, but still small compared with the output.
CHUNK = {'cpu': 2**19, 'cuda': 2**24}


class Block(NamedTuple):
    """A chunk: a grid of tiles of equal size, which are processed together.

    Attributes:
        top: The row of the coarse map where the tiles begin.
        left: The column of the coarse map where the tiles begin.
        rows: The number of rows of tiles.
        columns: The number of columns of tiles.
        height: The height ``h`` of a tile, in coarse pixels.
        width: The width ``w`` of a tile, in coarse pixels.
    """

    top: int
    left: int
    rows: int
    columns: int
    height: int
    width: int

    def windows(self, x: Tensor, k: int) -> Tensor:
        """Return the window of each tile, ``(B, rows, columns, C, h+k-1, w+k-1)``, from the coarse map, with zeros outside the map."""
        margin = k // 2
        area = x
        for dim, start, length in ((2, self.top, self.rows * self.height), (3, self.left, self.columns * self.width)):
            first, last = max(start - margin, 0), min(start + length + margin, x.shape[dim])
            area = area.narrow(dim, first, last - first)
        # Only the area of the block is padded: a padded map would be another map in memory.
        bottom, right = self.top + self.rows * self.height, self.left + self.columns * self.width
        sides = (self.left, x.shape[3] - right, self.top, x.shape[2] - bottom)
        area = F.pad(area, tuple(max(margin - inside, 0) for inside in sides))
        return self._cut(area, k)

    def padded_windows(self, padded: Tensor, k: int) -> Tensor:
        """Return a view of the window of each tile, as in :meth:`windows`, from a map that is padded by ``k // 2``."""
        h, w = self.height, self.width
        return self._cut(padded[:, :, self.top : self.top + self.rows * h + k - 1, self.left : self.left + self.columns * w + k - 1], k)

    def _cut(self, area: Tensor, k: int) -> Tensor:
        h, w = self.height, self.width
        return area.unfold(2, h + k - 1, h).unfold(3, w + k - 1, w).permute(0, 2, 3, 1, 4, 5)

    def fine(self, y: Tensor, s: int) -> Tensor:
        """Return a view of the fine pixels of each tile, ``(B, rows, columns, C, s*h, s*w)``."""
        height, width = s * self.height, s * self.width
        top, left = s * self.top, s * self.left
        area = y[:, :, top : top + self.rows * height, left : left + self.columns * width]
        return area.unflatten(3, (self.columns, width)).unflatten(2, (self.rows, height)).permute(0, 2, 4, 1, 3, 5)

    def weights(self, weight: Tensor, k: int, s: int) -> Tensor:
        """Return a view of the weights of each tile, ``(B, rows, columns, k, k, h, s, w, s)``."""
        fine = self.fine(weight, s).unflatten(5, (self.width, s)).unflatten(4, (self.height, s))
        return fine.unflatten(3, (k, k))

    def diagonals(self, band: Tensor, k: int, s: int) -> Tensor:
        """Return a view of those elements of the bands, ``(B * rows * columns, K, N)``, that are weights, shaped as in :meth:`weights`."""
        h, w = self.height, self.width
        tiles, window, fine = band.shape
        row, column = (w + k - 1) * fine, fine  # strides of one row and of one column of the window
        # The neighbourhood moves with the coarse pixel, so the strides of h and w also advance by a row or column of the window.
        strides = (row, column, row + s * s * w, s * w, column + s, 1)
        tile = window * fine
        return band.as_strided(
            (tiles // (self.rows * self.columns), self.rows, self.columns, k, k, h, s, w, s),
            (self.rows * self.columns * tile, self.columns * tile, tile, *strides),
        )


def blocks(shape: tuple[int, ...], device: torch.device, k: int, s: int) -> Iterator[Block]:
    """Cut a coarse map of the shape ``(B, C, H, W)`` into chunks of equal tiles; tiles at the right and bottom may be smaller."""
    batch, channels, height, width = shape
    budget = CHUNK.get(device.type, CHUNK['cuda'])
    for top, h, rows in _cut(height):
        for left, w, columns in _cut(width):
            largest = max((h + k - 1) * (w + k - 1), s * s * h * w)
            numbers = batch * columns * (channels * largest + (h + k - 1) * (w + k - 1) * s * s * h * w)
            at_once = max(1, budget // max(1, numbers))
            for row in range(0, rows, at_once):
                yield Block(top + row * h, left, min(at_once, rows - row), columns, h, w)


def _cut(size: int) -> list[tuple[int, int, int]]:
    """Cut a length into runs of equal tiles, each as ``(start, length of a tile, number of tiles)``."""
    whole, rest = divmod(size, TILE)
    return [part for part in ((0, TILE, whole), (size - rest, rest, 1)) if part[1] and part[2]]


def _bands(weight: Tensor, shape: tuple[int, ...], k: int, s: int) -> Iterator[tuple[Block, Tensor]]:
    """Yield each block of a coarse map with the bands of its weights; the next block may overwrite the bands."""
    band, layout = weight, None
    for block in blocks(shape, weight.device, k, s):
        size = _band_size(block, shape[0], k, s)
        if layout != (size, block.height):
            # Allocate the zeros only when the shape of the tiles changes: a block overwrites all weights of the one before it.
            band, layout = weight.new_zeros(size), (size, block.height)
        block.diagonals(band, k, s).copy_(block.weights(weight, k, s))
        yield block, band


def _band_size(block: Block, batch: int, k: int, s: int) -> tuple[int, int, int]:
    h, w = block.height, block.width
    return batch * block.rows * block.columns, (h + k - 1) * (w + k - 1), s * s * h * w


@custom_op('mmdysample::reassemble', mutates_args=())
def reassemble(x: Tensor, weight: Tensor, k: int, s: int) -> Tensor:
    """Return ``y``, ``(B, C, s*H, s*W)``, from ``x``, ``(B, C, H, W)``, and ``weight``, ``(B, k*k, s*H, s*W)``, all of one dtype.

    For each tile, the fine pixels are the product of its window and its band.
    """
    if not _is_finite(x):
        return taps.reassemble(x, weight, k, s)
    channels = x.shape[1]
    y = _reassemble_fake(x, weight, k, s)
    with torch.autocast(x.device.type, enabled=False):
        for block, band in _bands(weight, x.shape, k, s):
            tiles, window, _ = band.shape
            fine = block.fine(y, s)
            fine.copy_(torch.bmm(block.windows(x, k).reshape(tiles, channels, window), band).view(fine.shape))
    return y


@custom_op('mmdysample::similarity', mutates_args=())
def similarity(x: Tensor, y: Tensor, k: int, s: int) -> Tensor:
    """Return ``weight``, ``(B, k*k, s*H, s*W)``, from ``x``, ``(B, C, H, W)``, and ``y``, ``(B, C, s*H, s*W)``, all of one dtype.

    For each tile, the product of its window and its fine pixels is a full band, of which only the elements that are weights are kept.
    """
    batch, channels, _, _ = x.shape
    weight = _similarity_fake(x, y, k, s)
    with torch.autocast(x.device.type, enabled=False):
        for block in blocks(x.shape, x.device, k, s):
            tiles, window, fine = _band_size(block, batch, k, s)
            windows = block.windows(x, k).reshape(tiles, channels, window)
            band = torch.bmm(windows.mT, block.fine(y, s).reshape(tiles, channels, fine))
            block.weights(weight, k, s).copy_(block.diagonals(band, k, s))
    return weight


@custom_op('mmdysample::spread', mutates_args=())
def spread(y: Tensor, weight: Tensor, k: int, s: int) -> Tensor:
    """Return ``x``, ``(B, C, H, W)``, from ``y``, ``(B, C, s*H, s*W)``, and ``weight``, ``(B, k*k, s*H, s*W)``, all of one dtype.

    For each tile, the product of its fine pixels and its transposed band is a window. Overlapping windows are added up. This is the
    transpose of :func:`reassemble`, not its inverse.
    """
    if not _is_finite(y):
        return taps.spread(y, weight, k, s)
    batch, channels, height, width = y.shape[0], y.shape[1], y.shape[2] // s, y.shape[3] // s
    margin = k // 2
    padded = y.new_zeros(batch, channels, height + 2 * margin, width + 2 * margin)
    with torch.autocast(y.device.type, enabled=False):
        for block, band in _bands(weight, (batch, channels, height, width), k, s):
            tiles, _, fine = band.shape
            windows = torch.bmm(block.fine(y, s).reshape(tiles, channels, fine), band.mT)
            _add_windows(padded, windows, block, k)
    return padded[:, :, margin : margin + height, margin : margin + width].contiguous()


def _is_finite(x: Tensor) -> bool:
    """Return False if a map may hold NaN or infinity; while a CUDA graph is captured, when nothing may be read back, return True."""
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        return True
    # The sum is not finite if one value is not. It takes a tenth of the time of x.isfinite().all().
    return bool(x.sum(dtype=torch.promote_types(x.dtype, torch.float32)).isfinite())


def _add_windows(padded: Tensor, windows: Tensor, block: Block, k: int) -> None:
    """Add overlapping windows to a padded map, in place.

    The windows are cut into parts no larger than the step between windows, so that one addition never writes the same pixel twice.
    """
    target = block.padded_windows(padded, k)
    windows = windows.view(target.shape)
    for i in range(0, block.height + k - 1, block.height):
        for j in range(0, block.width + k - 1, block.width):
            part = (..., slice(i, i + block.height), slice(j, j + block.width))
            target[part].add_(windows[part])


@reassemble.register_fake
def _reassemble_fake(x: Tensor, weight: Tensor, k: int, s: int) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1], s * x.shape[2], s * x.shape[3])


@similarity.register_fake
def _similarity_fake(x: Tensor, y: Tensor, k: int, s: int) -> Tensor:
    return x.new_empty(x.shape[0], k * k, s * x.shape[2], s * x.shape[3])


@spread.register_fake
def _spread_fake(y: Tensor, weight: Tensor, k: int, s: int) -> Tensor:
    return y.new_empty(y.shape[0], y.shape[1], y.shape[2] // s, y.shape[3] // s)


def _keep_inputs(ctx: Any, inputs: tuple, output: Tensor) -> None:
    first, second, ctx.k, ctx.s = inputs
    ctx.save_for_backward(first, second)


Gradients = tuple[Optional[Tensor], Optional[Tensor], None, None]


def _gradients(ctx: Any, of_first: Callable[[], Tensor], of_second: Callable[[], Tensor]) -> Gradients:
    need_first, need_second = ctx.needs_input_grad[:2]
    return of_first() if need_first else None, of_second() if need_second else None, None, None


def _reassemble_backward(ctx: Any, grad_y: Tensor) -> Gradients:
    x, weight = ctx.saved_tensors
    return _gradients(ctx, lambda: spread(grad_y, weight, ctx.k, ctx.s), lambda: similarity(x, grad_y, ctx.k, ctx.s))


def _similarity_backward(ctx: Any, grad_weight: Tensor) -> Gradients:
    x, y = ctx.saved_tensors
    return _gradients(ctx, lambda: spread(y, grad_weight, ctx.k, ctx.s), lambda: reassemble(x, grad_weight, ctx.k, ctx.s))


def _spread_backward(ctx: Any, grad_x: Tensor) -> Gradients:
    y, weight = ctx.saved_tensors
    return _gradients(ctx, lambda: reassemble(grad_x, weight, ctx.k, ctx.s), lambda: similarity(grad_x, y, ctx.k, ctx.s))


reassemble.register_autograd(_reassemble_backward, setup_context=_keep_inputs)
similarity.register_autograd(_similarity_backward, setup_context=_keep_inputs)
spread.register_autograd(_spread_backward, setup_context=_keep_inputs)
