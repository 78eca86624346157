"""List the upsamplers by name; or print a table of what each can do, or of what it adds to the models of the paper's tables."""

import argparse
from collections.abc import Callable

from mmdysample.engine.errors import exit_on_error
from mmdysample.terminal.tables import FORMATS, Row, render

from .published_counts import EXPLAINED, why_counts_differ
from .upsampler_tables import capability_table, flops_table, name_table, parameters_table, torch_table

TABLES: dict[str, Callable[[], list[Row]]] = {
    'names': name_table,
    'capabilities': capability_table,
    'torch': torch_table,
    'flops': flops_table,
    'parameters': parameters_table,
}


def main() -> None:
    """Print the table that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'table',
        nargs='?',
        default='names',
        choices=list(TABLES),
        help='names: names and whether guided, at once (default); capabilities: scales, dtypes, compilation and export, tried one by one; '
        'torch: function transforms, tracing, quantisation, distributed training and copies, tried one by one; '
        'flops: FLOPs added to SegFormer-B1; parameters: parameters added to three models, both beside the published counts',
    )
    parser.add_argument('--format', default='text', choices=FORMATS)
    args = parser.parse_args()
    with exit_on_error():
        print(render(TABLES[args.table](), args.format))
    if args.format != 'csv' and args.table in EXPLAINED:
        print(why_counts_differ(args.table))


if __name__ == '__main__':
    main()
