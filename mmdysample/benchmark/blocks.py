"""Time block sizes of the kernels on a GPU: how many pixels and channels a program processes at once."""

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Optional

import torch

from mmdysample.functional import initial_position
from mmdysample.terminal.progress import progress
from mmdysample.terminal.tables import Row

from .environment import DTYPES, Environment
from .timing import Call, Clock, Timing, interleaved, make_clock
from .upsamplers import SCALE_FACTOR, SIZE, Show

Block = tuple[int, int]  # pixels and channels

GROUPS = 4  # those of DySample
SIZES = ((1, 256, 100, 152), SIZE, (16, 64, 32, 32))  # P3 of an FPN; the size of the paper's Figure 1; many small maps
FORMATS = {'contiguous': torch.contiguous_format, 'channels_last': torch.channels_last}
# From 128 to 1024 values, which are one to eight for each thread of a program.
CANDIDATES = {
    'contiguous': [(p, c) for p in (64, 128, 256, 512) for c in (1, 2, 4, 8) if 128 <= p * c <= 1024],
    'channels_last': [(p, c) for p in (2, 4, 8, 16) for c in (16, 32, 64) if 128 <= p * c <= 1024],
}
ROUNDS, SECONDS = 20, 1.0
# A block size counts as faster if it saves more than this share of the time; less could be chance.
MARGIN = 0.03


@dataclass(frozen=True)
class MeasuredBlock:
    """The measurement of a block size.

    Args:
        kernel: A key of ``BLOCKS`` in :mod:`mmdysample.functional.kernels.launch`.
        format: A key of ``FORMATS``.
        size: ``(B, C, H, W)`` of the map.
        dtype: A key of ``DTYPES``.
        block: The pixels and channels that a program processes at once.
        in_use: Whether it is the block size in ``BLOCKS``.
        time: In milliseconds, with the preparation of the kernel's input, such as sorting; None if it failed.
        error: The reason for a failure, otherwise empty.
    """

    kernel: str
    format: str
    size: tuple[int, ...]
    dtype: str
    block: Block
    in_use: bool
    time: Optional[Timing]
    error: str


def measure_blocks(
    environment: Environment,
    sizes: Sequence[tuple[int, ...]] = SIZES,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    clock: Optional[Clock] = None,
    show: Show = progress,
) -> list[MeasuredBlock]:
    """Measure the block sizes in use and ``CANDIDATES``, for each size, memory format and kernel with interleaved calls.

    Args:
        environment: The environment.
        sizes: ``(B, C, H, W)`` of the maps.
        rounds: Minimum number of timed calls of each block size.
        seconds: Approximate duration for each size, format and kernel.
        clock: The function that times a call; by default, that of the device.
        show: A function that iterates over items and shows the progress.
    """
    from mmdysample.functional.kernels.launch import BLOCKS

    clock = clock or make_clock(environment.device)
    rows = []
    for size, form, kernel in ((size, form, kernel) for size in sizes for form in FORMATS for kernel in BLOCKS):
        in_use = BLOCKS[kernel][FORMATS[form]]
        blocks = {str(block): block for block in (in_use, *CANDIDATES[form])}
        calls = _launches(kernel, size, form, environment, blocks)
        label = f'{kernel}, {"x".join(map(str, size))} {form} {environment.dtype}'
        times, failed = interleaved(calls, clock, rounds, seconds, partial(show, label=label))
        for name, block in blocks.items():
            time = Timing.of(times[name]) if name in times else None
            rows.append(MeasuredBlock(kernel, form, size, environment.dtype, block, block == in_use, time, failed.get(name, '')))
    return rows


def _launches(kernel: str, size: tuple[int, ...], form: str, environment: Environment, blocks: dict[str, Block]) -> dict[str, Call]:
    """Return a launch of a kernel with each block size."""
    from mmdysample.functional.kernels.launch import BLOCKS, sample_fused, sample_fused_backward

    torch.manual_seed(0)
    batch, channels, height, width = size
    shapes = (size, (batch, 2 * GROUPS * SCALE_FACTOR**2, height, width), (batch, channels, SCALE_FACTOR * height, SCALE_FACTOR * width))
    to = partial(torch.Tensor.to, device=environment.device, dtype=DTYPES[environment.dtype], memory_format=FORMATS[form])
    x, offset, grad = (to(torch.randn(shape)) for shape in shapes)
    arguments = (x, offset, None, initial_position(SCALE_FACTOR, GROUPS).to(environment.device), 0.25, SCALE_FACTOR, GROUPS)

    def call(block_sizes: Any) -> None:
        gather = kernel == 'gather_gradient'
        if kernel == 'sample':
            sample_fused(*arguments, block_sizes)
        else:
            with _deterministic(gather):
                sample_fused_backward(grad, *arguments, True, not gather, block_sizes)

    return {name: partial(call, {**BLOCKS, kernel: {FORMATS[form]: block}}) for name, block in blocks.items()}


@contextmanager
def _deterministic(on: bool) -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(on)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def block_table(rows: Sequence[MeasuredBlock]) -> list[Row]:
    """Return, for each kernel and format, the block size in use and the fastest, by the geometric mean over all sizes and dtypes."""
    table = []
    for kernel, form in dict.fromkeys((row.kernel, row.format) for row in rows):
        group = [row for row in rows if (row.kernel, row.format) == (kernel, form)]
        base = {(row.size, row.dtype): row.time.median for row in group if row.in_use and row.time}
        ratios: dict[Block, list[float]] = {}
        for row in group:
            if row.time and (row.size, row.dtype) in base:
                ratios.setdefault(row.block, []).append(row.time.median / base[row.size, row.dtype])
        # A block size that failed anywhere is not chosen.
        means = {block: statistics.geometric_mean(found) for block, found in ratios.items() if len(found) == len(base)}
        fastest = min(means, key=lambda block: means[block], default=None)
        table.append(
            {
                'name': f'`{kernel}`',
                'format': form,
                'in use': next('{}x{}'.format(*row.block) for row in group if row.in_use),
                'fastest': '{}x{}'.format(*fastest) if fastest else '',
                'fastest / in use': f'{means[fastest]:.2f}' if fastest else '',
            }
        )
    return table


def verdict(table: Sequence[Row]) -> str:
    """Return a sentence that names the block sizes that are clearly faster than those in use."""
    faster = [
        f'{row["name"]} {row["format"]} {row["fastest"]} ({row["fastest / in use"]} of the time of {row["in use"]})'.replace('`', '')
        for row in table
        if row['fastest'] and float(row['fastest / in use']) < 1 - MARGIN
    ]
    return f'faster than those in use: {", ".join(faster)}' if faster else 'no block size is clearly faster than that in use'
