"""Tables of every registered upsampler: what it can do, and what it adds to the models of the field's tables."""

import argparse
from collections.abc import Callable

from mmdysample.engine.errors import exit_on_error
from mmdysample.paper.reader import read_table
from mmdysample.terminal.progress import progress
from mmdysample.terminal.tables import FORMATS, Row, render
from mmdysample.upsamplers import build_upsampler, list_upsamplers
from mmdysample.upsamplers.builder import UpsampleConfig

from .capabilities import capabilities
from .flops import count_multiplications
from .model_size import count_model, count_parameters

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


def segformer_multiplications(cfg: UpsampleConfig) -> int:
    """Multiplications of the six steps of SegFormer-B1 at 512x512, of 256 channels, by an upsampler."""
    return sum(steps * count_multiplications(build_upsampler(cfg, CHANNELS), size, size) for size, steps in SEGFORMER_STEPS.items())


def flops_table() -> list[Row]:
    """Multiplications of the six steps of SegFormer-B1 at 512x512 in G, counted and published."""
    rows = []
    for name in list_upsamplers():
        here = f'{segformer_multiplications(name) / 1e9:.2f}'
        rows.append({'name': f'`{name}`', 'here': here, 'published': published('segformer', name, 'flops')})
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


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'table',
        nargs='?',
        default='capabilities',
        choices=['capabilities', 'flops', 'parameters'],
        help='what each can do (default); FLOPs in SegFormer-B1, or parameters in three models, beside the published ones',
    )
    parser.add_argument('--format', default='text', choices=FORMATS)
    args = parser.parse_args()
    tables: dict[str, Callable[[], list[Row]]] = {
        'capabilities': capability_table,
        'flops': flops_table,
        'parameters': parameters_table,
    }
    with exit_on_error():
        print(render(tables[args.table](), args.format))
    if args.format != 'csv' and args.table in EXPLAINED:
        print(why_counts_differ(args.table))


if __name__ == '__main__':
    main()
