"""DySample against the textbook formulation of the same formula: time and memory.

Both compute the same numbers (checked first). Their calls alternate, so that whatever else the machine does meets both alike; medians
of the times are compared, and the bytes that each holds at its peak.
"""

import random
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from mmdysample.upsamplers import DySample, DySamplePlus, DySampleS, DySampleSPlus

from .progress import progress

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
        ys, xs = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing='ij')
        centres = torch.stack((xs, ys)).view(1, 2, 1, h, w).to(x)
        size = torch.tensor((w, h)).view(1, 2, 1, 1, 1).to(x)
        coordinates = 2 * (centres + offset) / size - 1
        coordinates = F.pixel_shuffle(coordinates.reshape(b, -1, h, w), s).view(b, 2, g, s * h, s * w)
        grid = coordinates.permute(0, 2, 3, 4, 1).contiguous().flatten(0, 1)
        maps = x.reshape(b * g, c // g, h, w)
        return F.grid_sample(maps, grid, mode='bilinear', padding_mode='border', align_corners=False).view(b, c, s * h, s * w)


class Bilinear(nn.Upsample):
    """The floor: bilinear interpolation."""

    def __init__(self, scale_factor: int) -> None:
        super().__init__(scale_factor=scale_factor, mode='bilinear')


Inputs = tuple[Tensor, ...]  # a map and, where the module is guided, a guide


def forward(module: nn.Module, inputs: Inputs) -> None:
    with torch.no_grad():
        module(*inputs)


def forward_backward(module: nn.Module, inputs: Inputs) -> None:
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    module.zero_grad(set_to_none=True)
    module(*leaves).sum().backward()


Pass = Callable[[nn.Module, Inputs], None]
PASSES: dict[str, Pass] = {'forward': forward, 'forward + backward': forward_backward}


def peak_memory(run: Pass, module: nn.Module, inputs: Inputs) -> float:
    """Bytes held at the peak of a call beyond those held before it, in MiB."""
    run(module, inputs)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        run(module, inputs)
    held = peak = 0
    for event in prof.profiler.kineto_results.events():
        if event.name() == '[memory]':
            held += event.nbytes()
            peak = max(peak, held)
    return peak / 2**20


def call_times(
    run: Pass, modules: dict[str, nn.Module], inputs: dict[str, Inputs], rounds: int, seconds: float, label: str
) -> dict[str, list[float]]:
    """Times of interleaved calls in milliseconds: at least so many rounds, and as many as take so long.

    Small maps need many: their times spread widely with what the caches hold.
    """
    order = random.Random(0)

    def one_round() -> dict[str, float]:
        taken = {}
        # In any order: what a call leaves in caches and allocator is what the next one meets.
        for name, module in order.sample(list(modules.items()), len(modules)):
            start = time.perf_counter()
            run(module, inputs[name])
            taken[name] = 1e3 * (time.perf_counter() - start)
        return taken

    one_round()
    warm = sum(one_round().values()) / 1e3
    measured = [one_round() for _ in progress(range(max(rounds, int(seconds / warm))), label)]
    return {name: [taken[name] for taken in measured] for name in modules}


def compare(name: str, scale_factor: int, sizes: list[tuple[int, ...]], rounds: int, seconds: float) -> Table:
    """Measure a variant at some sizes.

    Args:
        name: A key of ``VARIANTS``.
        scale_factor: The upsampling ratio.
        sizes: ``(B, C, H, W)`` of the inputs.
        rounds: Timed calls of each, at least.
        seconds: How long to go on calling, at least.

    Returns:
        A table: medians in milliseconds, the ratio of the medians (and of the 10th percentiles, which other load disturbs less), and the
        ratio of the bytes.

    Raises:
        ValueError: A size does not fit the variant.
    """
    table = Table(title=f'{name} x{scale_factor}, float32 on CPU, torch {torch.__version__}, {torch.get_num_threads()} threads')
    for column in ('input, pass', 'bilinear', 'textbook', 'ours', 'time, ratio\n(10th perc.)', 'memory, ratio\n(MiB)'):
        first = column == 'input, pass'
        table.add_column(column, justify='left' if first else 'right', no_wrap=first)
    for size in sizes:
        torch.manual_seed(0)
        ours = VARIANTS[name](size[1], scale_factor)
        nn.init.normal_(ours.offset.weight, std=0.05)
        x = torch.randn(size)
        textbook = Textbook(ours)
        torch.testing.assert_close(ours(x), textbook(x), rtol=1e-3, atol=1e-3)
        modules: dict[str, nn.Module] = {'bilinear': Bilinear(scale_factor), 'textbook': textbook, 'ours': ours}
        for label, run in PASSES.items():
            shape = 'x'.join(map(str, size))
            times = call_times(run, modules, dict.fromkeys(modules, (x,)), rounds, seconds, f'{shape} {label}')
            ms = {key: statistics.median(values) for key, values in times.items()}
            fast = {key: statistics.quantiles(values, n=10)[0] for key, values in times.items()}
            mib = {key: peak_memory(run, modules[key], (x,)) for key in ('textbook', 'ours')}
            table.add_row(
                f'{shape}\n  {label}',
                *(f'{ms[key]:.2f} ms' for key in modules),
                f'{ms["ours"] / ms["textbook"]:.3f}\n({fast["ours"] / fast["textbook"]:.3f})',
                f'{mib["ours"] / mib["textbook"]:.3f}\n({mib["ours"]:.1f} / {mib["textbook"]:.1f})',
            )
    return table
