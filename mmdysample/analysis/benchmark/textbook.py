"""DySample against the textbook formulation of the same formula: time and memory.

Both compute the same numbers (checked first). Their calls alternate, so that whatever else the machine does meets both alike; medians
of the times are compared, and the bytes that each holds at its peak.
"""

import statistics
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor, nn

from mmdysample.analysis.progress import progress
from mmdysample.upsamplers import DySample, DySamplePlus, DySampleS, DySampleSPlus, build_upsampler

from .environment import Environment
from .memory import fitting, peak_memory
from .passes import PASSES, Subject
from .timing import interleaved, make_clock

SIZES = ((1, 256, 120, 120), (2, 256, 25, 42))

VARIANTS: dict[str, type[DySample]] = {
    'DySample': DySample,
    'DySample+': DySamplePlus,
    'DySample-S': DySampleS,
    'DySample-S+': DySampleSPlus,
}


class Textbook(nn.Module):
    """The formula step by step, as it is usually written: a pass over memory for each operation."""

    def __init__(self, module: DySample) -> None:
        super().__init__()
        self.module = module

    def offsets(self, x: Tensor) -> Tensor:
        m = self.module
        if m.style == 'lp':
            raw = m.offset(x)
            return (raw * m.scope(x).sigmoid() * 0.5 if m.scope is not None else raw * 0.25) + m.init_pos
        fine = F.pixel_shuffle(x, m.scale_factor)
        raw = m.offset(fine)
        raw = F.pixel_unshuffle(raw * m.scope(fine).sigmoid() * 0.5 if m.scope is not None else raw * 0.25, m.scale_factor)
        return raw + m.init_pos

    def forward(self, x: Tensor) -> Tensor:
        g, s = self.module.groups, self.module.scale_factor
        b, c, h, w = x.shape
        offset = self.offsets(x).view(b, 2, -1, h, w)
        ys, xs = torch.meshgrid(*(torch.arange(n, device=x.device) + 0.5 for n in (h, w)), indexing='ij')
        centres = torch.stack((xs, ys)).view(1, 2, 1, h, w).to(x)
        size = torch.tensor((w, h), device=x.device).view(1, 2, 1, 1, 1).to(x)
        coordinates = 2 * (centres + offset) / size - 1
        coordinates = F.pixel_shuffle(coordinates.reshape(b, -1, h, w), s).view(b, 2, g, s * h, s * w)
        grid = coordinates.permute(0, 2, 3, 4, 1).contiguous().flatten(0, 1)
        maps = x.reshape(b * g, c // g, h, w)
        return F.grid_sample(maps, grid, mode='bilinear', padding_mode='border', align_corners=False).view(b, c, s * h, s * w)


def compare(
    name: str, scale_factor: int, sizes: Sequence[tuple[int, ...]], environment: Environment, rounds: int, seconds: float = 0.0
) -> Table:
    """Measure a variant at some sizes.

    Args:
        name: A key of ``VARIANTS``.
        scale_factor: The upsampling ratio.
        sizes: ``(B, C, H, W)`` of the inputs.
        environment: How to compute: in float32, not compiled.
        rounds: Timed calls of each, at least.
        seconds: How long to go on calling, about, for each row.

    Returns:
        A table: medians in milliseconds, the ratio of the medians (and of the 10th percentiles, which other load disturbs less), and the
        ratio of the bytes.

    Raises:
        ValueError: A size does not fit the variant, or the memory does not suffice.
    """
    device = environment.device
    clock = make_clock(device)
    table = Table(title=f'{name} x{scale_factor}: {environment.sentence()}')
    for column in ('input, pass', 'bilinear', 'textbook', 'ours', 'time, ratio\n(10th perc.)', 'memory, ratio\n(MiB)'):
        first = column == 'input, pass'
        table.add_column(column, justify='left' if first else 'right', no_wrap=first)
    for size in sizes:
        torch.manual_seed(0)
        ours = VARIANTS[name](size[1], scale_factor)
        nn.init.normal_(ours.offset.weight, std=0.05)
        textbook = Textbook(ours.to(device))
        with fitting(size):
            x = torch.randn(size).to(device)
            gradient = torch.randn_like(ours(x))
            torch.testing.assert_close(ours(x), textbook(x), rtol=1e-3, atol=1e-3)
        modules: dict[str, nn.Module] = {'bilinear': build_upsampler('bilinear', size[1], scale_factor), 'textbook': textbook, 'ours': ours}
        subjects = {key: Subject(module, (x,), gradient) for key, module in modules.items()}
        for label, run in PASSES.items():
            shape = 'x'.join(map(str, size))
            calls = {key: run(subject) for key, subject in subjects.items()}
            times, failed = interleaved(calls, clock, rounds, seconds, partial(progress, label=f'{shape} {label}'))
            for key, why in failed.items():
                raise ValueError(f'{key} at {shape}, {label}: {why}; take a smaller --size')
            ms = {key: statistics.median(values) for key, values in times.items()}
            fast = {key: float(np.percentile(values, 10)) for key, values in times.items()}
            mib = {key: peak_memory(calls[key], device) / 2**20 for key in ('textbook', 'ours')}
            table.add_row(
                f'{shape}\n  {label}',
                *(f'{ms[key]:.2f} ms' for key in modules),
                f'{ms["ours"] / ms["textbook"]:.3f}\n({fast["ours"] / fast["textbook"]:.3f})',
                f'{mib["ours"] / mib["textbook"]:.3f}\n({mib["ours"]:.1f} / {mib["textbook"]:.1f})',
            )
    return table
