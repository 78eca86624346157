"""Time and memory of DySample against the textbook formulation of the same formula, in one run."""

import argparse
import os

# Before torch is imported: its profiler would log every start and stop.
os.environ.setdefault('KINETO_LOG_LEVEL', '99')
os.environ.setdefault('TORCH_CPP_LOG_LEVEL', 'ERROR')

from rich.console import Console

from mmdysample.analysis.speed import VARIANTS, compare
from mmdysample.engine.errors import exit_on_error


def size(text: str) -> tuple[int, ...]:
    """Parse BxCxHxW."""
    values = tuple(map(int, text.split('x')))
    if len(values) != 4:
        raise ValueError
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--size', action='append', type=size, metavar='BxCxHxW', help='default: 1x256x120x120 and 2x256x25x42')
    parser.add_argument('--type', default='DySample', choices=VARIANTS)
    parser.add_argument('--scale-factor', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=31, help='timed calls of each, at least (default: 31)')
    parser.add_argument('--seconds', type=float, default=10.0, help='how long to go on calling, at least, per row (default: 10)')
    args = parser.parse_args()
    with exit_on_error():
        table = compare(
            args.type, args.scale_factor, args.size or [(1, 256, 120, 120), (2, 256, 25, 42)], max(1, args.rounds), args.seconds
        )
    Console().print(table)


if __name__ == '__main__':
    main()
