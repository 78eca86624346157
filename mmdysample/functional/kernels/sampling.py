"""Triton kernels of DySample, from the map and the raw output of its layers directly to the upsampled map, and their backward pass.

A program (Triton's word for a thread block) processes a block of output pixels of one group of channels of one image. It computes their
sampling points once, in float32, and then loops over the channels. Coordinates and weights stay in registers and are never written to
memory; the backward pass computes them again. "Raw" means the output of the offset or scope layer.

The letters are those of :mod:`mmdysample.functional.dysample`, and ``y`` is the output. Strides are in elements: ``x_c`` is the stride of
the channels of ``x``. The start of an image is always a 64-bit index. Indices within a group of an image have 32 bits, which take half as
many registers, or 64 bits if ``WIDE`` is set.
"""

import triton
import triton.language as tl

# Triton compiles a kernel again for each set of integers that are 1 or divisible by 16. Training at many sizes would compile hundreds of
# variants, so sizes and most strides are left out. Strides of channels and columns still count if they are 1: then neighbouring elements
# are contiguous, and loads are vectorised.
SIZES = ('blocks', 'groups', 'share', 'height', 'width', *(f'{tensor}_{axis}' for tensor in 'xosyg' for axis in 'bh'))
STRIDES = tuple(f'{tensor}_{axis}' for tensor in 'xosyg' for axis in 'cw')
kernel = triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=STRIDES)


@triton.jit
def _block(blocks, groups, PIXELS: tl.constexpr):
    """Return the pixels, the group and the image that this program processes."""
    program = tl.program_id(0)
    pixels = (program % blocks) * PIXELS + tl.arange(0, PIXELS)
    rest = program // blocks
    return pixels, (rest % groups).to(tl.int64), (rest // groups).to(tl.int64)


@triton.jit
def _step(offset, scope, position, scope_factor, channel, o_at, o_c, s_at, s_c, inside, DYNAMIC: tl.constexpr):
    """Return, along one axis, the distance of points from the centre of their input pixel, the raw offset, the reach and the gate.

    The reach is the distance in input pixels per unit of raw offset. The gate is the sigmoid of the raw scope, or zero for a static scope.
    """
    raw = tl.load(offset + channel * o_c + o_at, mask=inside, other=0.0).to(tl.float32)
    start = tl.load(position + channel, mask=inside, other=0.0)
    if DYNAMIC:
        gate = tl.sigmoid(tl.load(scope + channel * s_c + s_at, mask=inside, other=0.0).to(tl.float32))
        reach = 2.0 * scope_factor * gate
    else:
        gate = tl.zeros_like(raw)
        reach = tl.zeros_like(raw) + scope_factor
    distance = start + raw * reach
    # A point that is NaN or infinite samples the centre of its pixel and has no gradient.
    finite = tl.abs(distance) < float('inf')
    return tl.where(finite, distance, 0.0), tl.where(finite, raw, 0.0), tl.where(finite, reach, 0.0), tl.where(finite, gate, 0.0)


@triton.jit
def _index(values, WIDE: tl.constexpr):
    """Convert to an integer wide enough for the product with a stride."""
    return values.to(tl.int64) if WIDE else values.to(tl.int32)


@triton.jit
def _places(pixels, group, groups, height, width, S: tl.constexpr, WIDE: tl.constexpr):
    """Return which output pixels exist, the row and column of the input pixel that contains each, and the offset channels of its x and y.

    A block may extend beyond the last output pixel, so the pixels at its end may not exist.
    """
    fine_row, fine_column = pixels // (S * width), pixels % (S * width)
    h, w = fine_row // S, fine_column // S
    channel_x = _index((group * S + fine_row % S) * S + fine_column % S, WIDE)
    return h < height, _index(h, WIDE), _index(w, WIDE), channel_x, channel_x + groups * S * S


@triton.jit
def _fine(pixels, width, y_h, y_w, S: tl.constexpr, WIDE: tl.constexpr):
    """Return the index of output pixels within a channel, in elements."""
    return _index(pixels // (S * width), WIDE) * y_h + _index(pixels % (S * width), WIDE) * y_w


@triton.jit
def _coordinates(
    pixels, group, offset, scope, position, scope_factor, o_c, o_h, o_w, s_c, s_h, s_w, groups, height, width,
    S: tl.constexpr, DYNAMIC: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Return which output pixels exist, and the column and row of the input that each samples.

    A coordinate of 0 is the centre of the first pixel. ``offset`` and ``scope`` point to the start of the image.
    """
    inside, h, w, channel_x, channel_y = _places(pixels, group, groups, height, width, S, WIDE)
    o_at, s_at = h * o_h + w * o_w, h * s_h + w * s_w
    step_x, _, _, _ = _step(offset, scope, position, scope_factor, channel_x, o_at, o_c, s_at, s_c, inside, DYNAMIC)
    step_y, _, _, _ = _step(offset, scope, position, scope_factor, channel_y, o_at, o_c, s_at, s_c, inside, DYNAMIC)
    return inside, w.to(tl.float32) + step_x, h.to(tl.float32) + step_y


@triton.jit
def _clamp(at, length):
    """Move a coordinate outside the map to the border."""
    return tl.minimum(tl.maximum(at, 0.0), length - 1.0)


@triton.jit
def _corners(column, row, height, width, WIDE: tl.constexpr):
    """Return the left and right column and the upper and lower row of the pixels around a point, and its distance from left and upper.

    A point outside the map is moved to the border.
    """
    column, row = _clamp(column, width), _clamp(row, height)
    left, upper = tl.floor(column), tl.floor(row)
    x0, y0 = _index(left, WIDE), _index(upper, WIDE)
    return x0, tl.minimum(x0 + 1, width - 1), y0, tl.minimum(y0 + 1, height - 1), column - left, row - upper


@triton.jit
def _load(x, rows, columns, x_h, x_w, valid):
    return tl.load(x + (rows * x_h + columns * x_w)[:, None], mask=valid, other=0.0).to(tl.float32)


@kernel
def sample(
    x, offset, scope, position, y, scope_factor,
    x_b, x_c, x_h, x_w, o_b, o_c, o_h, o_w, s_b, s_c, s_h, s_w, y_b, y_c, y_h, y_w,
    blocks, groups, share, height, width,
    S: tl.constexpr, DYNAMIC: tl.constexpr, WIDE: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Upsample a map.

    ``share`` is the number of channels in a group. ``blocks`` is the number of programs for one group of one image.
    """
    pixels, group, image = _block(blocks, groups, PIXELS)
    inside, column, row = _coordinates(
        pixels, group, offset + image * o_b, scope + image * s_b, position, scope_factor,
        o_c, o_h, o_w, s_c, s_h, s_w, groups, height, width, S, DYNAMIC, WIDE,
    )  # fmt: skip
    x0, x1, y0, y1, right_of, below = _corners(column, row, height, width, WIDE)
    right_of, below = right_of[:, None], below[:, None]
    y_at = _fine(pixels, width, y_h, y_w, S, WIDE)[:, None]
    x += image * x_b + group * share * x_c
    y += image * y_b + group * share * y_c
    for first in range(0, share, CHANNELS):
        channels = (first + tl.arange(0, CHANNELS))[None, :]
        valid = inside[:, None] & (channels < share)
        channels = _index(channels, WIDE)
        plane = x + channels * x_c
        v00, v01 = _load(plane, y0, x0, x_h, x_w, valid), _load(plane, y0, x1, x_h, x_w, valid)
        v10, v11 = _load(plane, y1, x0, x_h, x_w, valid), _load(plane, y1, x1, x_h, x_w, valid)
        # A sum of products, not of differences: infinity minus infinity would be NaN.
        left_of, above = 1.0 - right_of, 1.0 - below
        value = v00 * left_of * above + v01 * right_of * above + v10 * left_of * below + v11 * right_of * below
        tl.store(y + channels * y_c + y_at, value.to(y.dtype.element_ty), mask=valid)


@kernel
def sample_backward(
    x, offset, scope, position, grad, grad_x, grad_offset, grad_scope, scope_factor,
    x_b, x_c, x_h, x_w, o_b, o_c, o_h, o_w, s_b, s_c, s_h, s_w, y_b, y_c, y_h, y_w, g_b, g_c, g_h, g_w,
    blocks, groups, share, height, width,
    S: tl.constexpr, DYNAMIC: tl.constexpr, WIDE: tl.constexpr, OF_X: tl.constexpr, OF_POINTS: tl.constexpr,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of the map (if ``OF_X``) and of the raw offset and scope (if ``OF_POINTS``).

    The gradient of the map is added up atomically, in no fixed order; a single program writes each element of the other two. ``grad`` is
    the gradient of the output. ``grad_x`` must be float32 and zero at the start. ``grad_offset`` and ``grad_scope`` have the strides of
    ``offset`` and ``scope``.
    """
    pixels, group, image = _block(blocks, groups, PIXELS)
    inside, h, w, channel_x, channel_y = _places(pixels, group, groups, height, width, S, WIDE)
    offset, scope = offset + image * o_b, scope + image * s_b
    o_at, s_at = h * o_h + w * o_w, h * s_h + w * s_w
    step_x, raw_x, reach_x, gate_x = _step(offset, scope, position, scope_factor, channel_x, o_at, o_c, s_at, s_c, inside, DYNAMIC)
    step_y, raw_y, reach_y, gate_y = _step(offset, scope, position, scope_factor, channel_y, o_at, o_c, s_at, s_c, inside, DYNAMIC)
    column, row = w.to(tl.float32) + step_x, h.to(tl.float32) + step_y
    x0, x1, y0, y1, right_of, below = _corners(column, row, height, width, WIDE)
    right_of, below = right_of[:, None], below[:, None]
    y_at = _fine(pixels, width, y_h, y_w, S, WIDE)[:, None]
    by_column = tl.zeros((PIXELS,), tl.float32)
    by_row = tl.zeros((PIXELS,), tl.float32)
    x += image * x_b + group * share * x_c
    grad += image * y_b + group * share * y_c
    grad_x += image * g_b + group * share * g_c
    for first in range(0, share, CHANNELS):
        channels = (first + tl.arange(0, CHANNELS))[None, :]
        valid = inside[:, None] & (channels < share)
        channels = _index(channels, WIDE)
        flow = tl.load(grad + channels * y_c + y_at, mask=valid, other=0.0).to(tl.float32)
        if OF_POINTS:
            plane = x + channels * x_c
            v00, v01 = _load(plane, y0, x0, x_h, x_w, valid), _load(plane, y0, x1, x_h, x_w, valid)
            v10, v11 = _load(plane, y1, x0, x_h, x_w, valid), _load(plane, y1, x1, x_h, x_w, valid)
            by_column += tl.sum(flow * ((v01 - v00) * (1.0 - below) + (v11 - v10) * below), axis=1)
            by_row += tl.sum(flow * ((v10 - v00) * (1.0 - right_of) + (v11 - v01) * right_of), axis=1)
        if OF_X:
            sink = grad_x + channels * g_c
            above, left_of = 1.0 - below, 1.0 - right_of
            tl.atomic_add(sink + (y0 * g_h + x0 * g_w)[:, None], flow * left_of * above, mask=valid, sem='relaxed')
            tl.atomic_add(sink + (y0 * g_h + x1 * g_w)[:, None], flow * right_of * above, mask=valid, sem='relaxed')
            tl.atomic_add(sink + (y1 * g_h + x0 * g_w)[:, None], flow * left_of * below, mask=valid, sem='relaxed')
            tl.atomic_add(sink + (y1 * g_h + x1 * g_w)[:, None], flow * right_of * below, mask=valid, sem='relaxed')
    if OF_POINTS:
        # Moving a point that is on the border or outside does not change its sample, so its gradient is zero.
        by_column = tl.where((column > 0.0) & (column < width - 1.0), by_column, 0.0)
        by_row = tl.where((row > 0.0) & (row < height - 1.0), by_row, 0.0)
        grad_offset += image * o_b + o_at
        tl.store(grad_offset + channel_x * o_c, (by_column * reach_x).to(grad_offset.dtype.element_ty), mask=inside)
        tl.store(grad_offset + channel_y * o_c, (by_row * reach_y).to(grad_offset.dtype.element_ty), mask=inside)
        if DYNAMIC:
            grad_scope += image * s_b + s_at
            slope_x = by_column * raw_x * reach_x * (1.0 - gate_x)
            slope_y = by_row * raw_y * reach_y * (1.0 - gate_y)
            tl.store(grad_scope + channel_x * s_c, slope_x.to(grad_scope.dtype.element_ty), mask=inside)
            tl.store(grad_scope + channel_y * s_c, slope_y.to(grad_scope.dtype.element_ty), mask=inside)


@kernel
def locate(
    offset, scope, position, cell, scope_factor,
    o_b, o_c, o_h, o_w, s_b, s_c, s_h, s_w,
    blocks, groups, height, width,
    S: tl.constexpr, DYNAMIC: tl.constexpr, WIDE: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Write the cell of each sampling point to ``cell``, ``(B*g, s*H * s*W)``.

    The cell is the index of the upper left of the four pixels around the point.
    """
    pixels, group, image = _block(blocks, groups, PIXELS)
    inside, column, row = _coordinates(
        pixels, group, offset + image * o_b, scope + image * s_b, position, scope_factor,
        o_c, o_h, o_w, s_c, s_h, s_w, groups, height, width, S, DYNAMIC, WIDE,
    )  # fmt: skip
    x0, _, y0, _, _, _ = _corners(column, row, height, width, WIDE)
    first = (image * groups + group) * S * S * height * width
    tl.store(cell + first + pixels, (y0 * width + x0).to(tl.int32), mask=inside)


@kernel
def gather_gradient(
    offset, scope, position, grad, grad_x, order, starts, scope_factor,
    o_b, o_c, o_h, o_w, s_b, s_c, s_h, s_w, y_b, y_c, y_h, y_w, g_b, g_c, g_h, g_w,
    blocks, groups, share, height, width,
    S: tl.constexpr, DYNAMIC: tl.constexpr, WIDE: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Compute the gradient of the map, added up in a fixed order.

    A program processes a block of input pixels and some channels of a group. The points of four cells contribute to an input pixel: those
    of its own cell and of the cells to the left, above, and above to the left.

    ``order``, ``(B*g, s*H * s*W)``, holds the output pixels sorted by their cells. ``starts``, ``(B*g, H*W + 1)``, holds the position in
    ``order`` where each cell begins.
    """
    pixels, group, image = _block(blocks, groups, PIXELS)
    exists = pixels < height * width
    h, w = pixels // width, pixels % width
    channels = (tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS))[None, :]
    exists_here = channels < share
    channels = _index(channels, WIDE)
    part = image * groups + group
    order += part * S * S * height * width
    starts += part * (height * width + 1)
    grad += image * y_b + group * share * y_c
    total = tl.zeros((PIXELS, CHANNELS), tl.float32)
    for corner in tl.static_range(4):
        cell_h, cell_w = h - corner // 2, w - corner % 2
        has = exists & (cell_h >= 0) & (cell_w >= 0)
        cell = cell_h * width + cell_w
        begin = tl.load(starts + cell, mask=has, other=0)
        count = tl.load(starts + cell + 1, mask=has, other=0) - begin
        for i in range(0, tl.max(count, axis=0)):
            there = has & (i < count)
            point = tl.load(order + begin + i, mask=there, other=0)
            _, column, row = _coordinates(
                point, group, offset + image * o_b, scope + image * s_b, position, scope_factor,
                o_c, o_h, o_w, s_c, s_h, s_w, groups, height, width, S, DYNAMIC, WIDE,
            )  # fmt: skip
            # Measure from the cell that the point was sorted into. A new floor() could give another cell for a point on a pixel, because
            # this kernel may round the coordinate differently from `locate`.
            right_of, below = _clamp(column, width) - cell_w.to(tl.float32), _clamp(row, height) - cell_h.to(tl.float32)
            weight = (right_of if corner % 2 else 1.0 - right_of) * (below if corner // 2 else 1.0 - below)
            y_at = _fine(point, width, y_h, y_w, S, WIDE)[:, None]
            total += tl.load(grad + channels * y_c + y_at, mask=there[:, None] & exists_here, other=0.0).to(tl.float32) * weight[:, None]
    sink = grad_x + image * g_b + group * share * g_c + channels * g_c + (_index(h, WIDE) * g_h + _index(w, WIDE) * g_w)[:, None]
    tl.store(sink, total.to(grad_x.dtype.element_ty), mask=exists[:, None] & exists_here)
