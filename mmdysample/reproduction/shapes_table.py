"""Train and test every experiment on Shapes with some upsamplers, and print one table.

Complete trainings are kept, and interrupted ones resume: after a failure or a crash, run the same command again.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Optional

from mmdysample.catalogue.twins import BASELINE, Metric, Twin, find_twins
from mmdysample.engine.errors import exit_on_error
from mmdysample.engine.options import KeptOptions, positive
from mmdysample.terminal.tables import FORMATS, Row, render

from .processes import require_posix
from .running import Execute, Processes
from .tools import Tools
from .train_all import print_commands, train_all
from .training import Training, digest

UPSAMPLERS = (BASELINE, 'DySample', 'DySample+')
LEFT = ('name', 'task', 'metric')
NOTE = (
    f'{BASELINE}: the interpolation of the stock model. Minutes: wall time of each training, in the order of the columns; >: the '
    'training was resumed, and only the time since then is counted.\n'
    'One seed. Detection on Shapes ranks nothing: the AP of the same model differs by ±0.05 (five points) from seed to seed. The table '
    'shows that everything trains.'
)


def plan(twin: Twin, upsamplers: Iterable[str], options: dict[str, Any], raw_options: Sequence[str], out: Path) -> dict[str, Training]:
    """Return the trainings of an experiment.

    Args:
        twin: The experiment.
        upsamplers: Values of ``--upsampler``, or ``'baseline'`` for the interpolation of the stock model.
        options: The parsed ``--cfg-options``.
        raw_options: The same options as written on the command line.
        out: The folder of all results.

    Returns:
        The trainings by upsampler. Two names of the same upsampler share a work folder, and so one training.

    Raises:
        ValueError: An upsampler is unknown.
    """
    trainings = {}
    for column in upsamplers:
        upsampler = twin.baseline if column == BASELINE else column
        config, name = twin.with_upsampler(upsampler, options)
        trainings[column] = Training(twin.path, upsampler, tuple(raw_options), out / twin.path.stem / name, digest(config))
    return trainings


def table(plans: dict[Twin, dict[str, Training]]) -> list[Row]:
    """Return the results so far, a row for each experiment and metric."""
    rows = []
    for twin, trainings in plans.items():
        for metric in twin.metrics:
            row = {'name': f'`{twin.name}`', 'task': metric.task, 'metric': metric.name}
            if BASELINE in trainings:
                row['interpolation'] = twin.baseline
            row |= {column: _value(training, metric) for column, training in trainings.items()}
            row['minutes'] = ' / '.join(training.minutes for training in trainings.values())
            rows.append(row)
    return rows


def _value(training: Training, metric: Metric) -> str:
    if training.metrics is None:
        return 'failed'
    value = training.metric(metric.key)
    return '-' if value is None else f'{metric.factor * value:.{metric.digits}f}'


def write(rows: list[Row], out: Path, whole: bool) -> None:
    """Write the table as Markdown with the note, and as CSV. A selection has names of its own, so as not to overwrite the whole table."""
    out.mkdir(parents=True, exist_ok=True)
    stem = 'table' if whole else 'table_rows'
    (out / f'{stem}.md').write_text(f'{render(rows, "markdown", LEFT)}\n\n{NOTE}\n', encoding='utf-8')
    (out / f'{stem}.csv').write_text(f'{render(rows, "csv")}\n', encoding='utf-8')


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--only', nargs='+', default=[], metavar='PATTERN', help='configs by (parts of) their names, with wildcards')
    parser.add_argument(
        '--upsamplers',
        nargs='+',
        default=list(UPSAMPLERS),
        metavar='NAME',
        help=f'names, or dicts in Python syntax; {BASELINE} is the interpolation of the stock model (default: {" ".join(UPSAMPLERS)})',
    )
    parser.add_argument('--out', default='results/shapes', metavar='DIR', help='folder of the results (default: results/shapes)')
    parser.add_argument(
        '--jobs', type=positive, default=1, metavar='N', help='trainings at a time; they share the CPU cores, unless OMP_NUM_THREADS is set'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=KeptOptions, metavar='KEY=VALUE', help='change every config, as in tools/train.py'
    )
    parser.add_argument('--dry-run', action='store_true', help='print the commands, without training')
    parser.add_argument('--format', default='text', choices=FORMATS)
    parser.set_defaults(raw_options=[])
    return parser


def main(root: Path, execute: Optional[Execute] = None, arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command.

    Args:
        root: The folder that holds ``configs`` and ``tools``.
        execute: What runs the commands; by default, processes.
        arguments: The command line; by default, that of this process.

    Returns:
        The exit code: 0, or 1 if a training failed.
    """
    args = make_parser().parse_args(arguments)
    root, out = Path(os.path.relpath(root)), Path(args.out)
    with exit_on_error():
        if out.is_file():
            raise ValueError(f'--out takes a folder, got the file {out}')
        with redirect_stdout(sys.stderr):  # mmengine prints the environment variables that a config reads
            twins = find_twins(root / 'configs/shapes', args.only, args.cfg_options)
        plans = {twin: plan(twin, args.upsamplers, args.cfg_options or {}, args.raw_options, out) for twin in twins}
        unique = {training.folder: training for trainings in plans.values() for training in trainings.values()}
        pending = [training for training in unique.values() if training.metrics is None]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
        tools = Tools(root / 'tools', max(1, cores // args.jobs))
        if args.dry_run:
            for training in pending:
                print_commands(training, tools)
            return 0
        if pending:
            require_posix()
        out.mkdir(parents=True, exist_ok=True)
    with exit_on_error(()):
        failures = train_all(pending, [tools] * args.jobs, execute or Processes()) if pending else []
    with exit_on_error():
        rows = table(plans)
        write(rows, out, whole=not args.only and args.upsamplers == list(UPSAMPLERS))
        print(render(rows, args.format, LEFT))
        if args.format != 'csv':
            print(f'\n{NOTE}')
    for line in failures:
        print(line, file=sys.stderr)
    return 1 if failures else 0
