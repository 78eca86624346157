"""Tables of every registered upsampler: what it can do, what it costs, and what it adds to the models of the field's tables."""

import argparse
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdysample.engine.errors import exit_on_error
from mmdysample.functional import tiles
from mmdysample.upsamplers import build_upsampler, list_upsamplers

from .capabilities import capabilities, make
from .flops import count_multiplications
from .model_size import count_model, count_parameters
from .paper_tables import read_table
from .progress import progress
from .speed import PASSES, Inputs, call_times, peak_memory
from .tables import FORMATS, Row, render

CHANNELS = 256
# Low-resolution sizes of the six steps of SegFormer-B1 at 512x512, and how many steps start at each.
SEGFORMER_STEPS = {16: 1, 32: 2, 64: 3}
# The models of the table of parameters, by column: the paper's table and the config.
COUNTED = {
    'faster_rcnn': ('faster_rcnn', 'faster_rcnn_dysample.py'),
    'panoptic_fpn': ('panoptic', 'panoptic_fpn_dysample.py'),
    'segformer': ('segformer', 'segformer_b1_dysample.py'),
}
# Rows of the paper's tables whose notes say why a published count is not the one here.
EXPLAINED: dict[str, dict[str, tuple[str, ...]]] = {
    'flops': {'segformer': ('bilinear', 'deconv', 'SAPA-D')},
    'parameters': {'faster_rcnn': ('DySample', 'A2U'), 'panoptic': ('DySample-S+', 'A2U'), 'segformer': ('pixel_shuffle',)},
}

Operation = Callable[[Tensor, Tensor, int, int], Tensor]


def capability_table() -> list[Row]:
    """What each upsampler is and can do, at 256 channels and x2 where it matters."""
    rows = []
    for name in progress(list_upsamplers(), 'trying each upsampler'):
        module = build_upsampler(name, CHANNELS)
        rows.append(
            {
                'name': f'`{name}`',
                'guided': 'yes' if getattr(module, 'guided', False) else 'no',
                'parameters': f'{count_parameters(module):,}',
                'GFLOPs, 120x120': f'{count_multiplications(module, 120, 120) / 1e9:.2f}',
                **capabilities(name),
            }
        )
    return rows


def flops_table() -> list[Row]:
    """Multiplications of the six steps of SegFormer-B1 at 512x512 in G, counted and published."""
    rows = []
    for name in list_upsamplers():
        counts = (steps * count_multiplications(build_upsampler(name, CHANNELS), size, size) for size, steps in SEGFORMER_STEPS.items())
        rows.append({'name': f'`{name}`', 'here': f'{sum(counts) / 1e9:.2f}', 'published': published('segformer', name, 'flops')})
    return rows


def published(table: str, name: str, column: str) -> str:
    """What an upsampler adds to a model, as published.

    Args:
        table: One of the paper's tables.
        name: An upsampler.
        column: ``'parameters'``, or ``'flops'`` (in G).

    Returns:
        The count as it is printed, ``'0'`` for the interpolation of the stock model, or nothing where no count is public.
    """
    row = next((row for row in read_table(table).rows if row.name == name), None)
    cell = row.cell(column) if row else None
    if cell is None or cell.mark not in ('C2', '1S'):
        return ''
    count = cell.text()
    return count.removeprefix('+').removesuffix('G') if count.startswith('+') else '0'


def why_counts_differ(column: str) -> str:
    """Why some of the published counts are not those here, in a line each."""
    lines = []
    for table, names in EXPLAINED[column].items():
        notes = read_table(table).notes
        lines += [f'{table}, {name}: {notes[read_table(table).row(name).note or ""]}' for name in names]
    return '\n'.join(lines)


def parameters_table() -> list[Row]:
    """Parameters that each upsampler adds to three models in place of interpolation, counted and published."""
    baselines = {model: count_model(config, 'nearest') for model, (_, config) in COUNTED.items()}
    rows = []
    for name in progress(list_upsamplers(), 'building models'):
        row = {'name': f'`{name}`'}
        for model, (table, config) in COUNTED.items():
            row[model] = f'{count_model(config, name) - baselines[model]:,}'
            row[f'{model}, published'] = published(table, name, 'parameters')
        rows.append(row)
    return rows


def cost_table(size: tuple[int, int, int, int], rounds: int, seconds: float) -> list[Row]:
    """Time and memory of each upsampler at x2, float32 on CPU, beside bilinear and beside the unfold formulation of what reassembles."""
    batch, channels, height, width = size
    output = batch * channels * 4 * height * width * 4 / 2**20
    x, guide = torch.randn(size), torch.randn(batch, channels, 2 * height, 2 * width)
    modules = {name: make(name, channels) for name in list_upsamplers()}
    inputs: dict[str, Inputs] = {name: (x, guide) if getattr(module, 'guided', False) else (x,) for name, module in modules.items()}
    reassembling = [name for name, module in modules.items() if _reassembles(module, inputs[name])]
    rows: dict[str, Row] = {name: {'name': f'`{name}`'} for name in modules}
    for label, run in PASSES.items():
        times = call_times(run, modules, inputs, rounds, seconds, label)
        for name, row in rows.items():
            ms = statistics.median(times[name])
            row[f'{label}, ms'] = f'{ms:.1f}'
            row[f'{label}, / bilinear'] = f'{ms / statistics.median(times["bilinear"]):.1f}'
            row[f'{label}, memory / output'] = f'{peak_memory(run, modules[name], inputs[name]) / output:.2f}'
            row[f'{label}, unfold / ours'] = ''
        for name in progress(reassembling, f'{label}, by unfolding'):
            pair = {'ours': modules[name], 'unfold': Unfolding(modules[name])}
            pair_times = call_times(run, pair, dict.fromkeys(pair, inputs[name]), 3, 0, '')
            ratio = statistics.median(pair_times['unfold']) / statistics.median(pair_times['ours'])
            rows[name][f'{label}, unfold / ours'] = f'{ratio:.1f}'
    return list(rows.values())


def unfold_reassemble(x: Tensor, weight: Tensor, k: int, s: int) -> Tensor:
    """Reassembly as it is usually written: unfold, repeat each pixel, multiply, add up."""
    batch, channels, height, width = x.shape
    patches = F.unfold(x, k, padding=k // 2).view(batch, channels * k * k, height, width)
    patches = F.interpolate(patches, scale_factor=s, mode='nearest').view(batch, channels, k * k, s * height, s * width)
    return (patches * weight.unsqueeze(1)).sum(2)


def unfold_similarity(x: Tensor, y: Tensor, k: int, s: int) -> Tensor:
    """Similarity as it is usually written."""
    batch, channels, height, width = x.shape
    patches = F.unfold(x, k, padding=k // 2).view(batch, channels * k * k, height, width)
    patches = F.interpolate(patches, scale_factor=s, mode='nearest').view(batch, channels, k * k, s * height, s * width)
    return (patches * y.unsqueeze(2)).sum(1)


@contextmanager
def in_place_of_tiles(reassemble: Operation, similarity: Operation) -> Iterator[None]:
    """Compute by other formulations."""
    ours = tiles.reassemble, tiles.similarity
    tiles.reassemble, tiles.similarity = reassemble, similarity  # type: ignore[assignment]
    try:
        yield
    finally:
        tiles.reassemble, tiles.similarity = ours


class Unfolding(nn.Module):
    """An upsampler with the unfold formulation in the place of ours."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Tensor:
        with in_place_of_tiles(unfold_reassemble, unfold_similarity):
            return self.module(*inputs)


def _reassembles(module: nn.Module, inputs: tuple[Tensor, ...]) -> bool:
    small = [tensor[:1, :, : 8 * (1 + i), : 8 * (1 + i)] for i, tensor in enumerate(inputs)]
    called = []

    def spy(*args: Any) -> Tensor:
        called.append(True)
        return unfold_reassemble(*args)

    with in_place_of_tiles(spy, unfold_similarity), torch.no_grad():
        module(*small)
    return bool(called)


def parse_size(text: str) -> tuple[int, ...]:
    """Parse BxCxHxW."""
    values = tuple(int(part) if part.isdecimal() else 0 for part in text.split('x'))
    if len(values) != 4 or min(values) < 1:
        raise argparse.ArgumentTypeError(f'takes BxCxHxW, four positive numbers, got {text}')
    return values


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'table',
        nargs='?',
        default='capabilities',
        choices=['capabilities', 'flops', 'parameters', 'cost'],
        help='what each can do (default); FLOPs in SegFormer-B1 and parameters in three models, beside the published ones; time and memory',
    )
    parser.add_argument('--format', default='text', choices=FORMATS)
    parser.add_argument('--size', type=parse_size, default=(1, 256, 120, 120), metavar='BxCxHxW', help='cost: default 1x256x120x120')
    parser.add_argument('--rounds', type=int, default=7, help='cost: timed calls of each, at least (default: 7)')
    parser.add_argument('--seconds', type=float, default=10.0, help='cost: how long to go on calling, at least (default: 10)')
    args = parser.parse_args()
    tables: dict[str, Callable[[], list[Row]]] = {
        'capabilities': capability_table,
        'flops': flops_table,
        'parameters': parameters_table,
        'cost': lambda: cost_table(args.size, max(1, args.rounds), args.seconds),
    }
    with exit_on_error():
        print(render(tables[args.table](), args.format))
    if args.format != 'csv' and args.table in EXPLAINED:
        print(why_counts_differ(args.table))


if __name__ == '__main__':
    main()
