"""Train and test the rows of the paper's tables, and print them with a column of your own.

What is complete is not trained again, and what was interrupted goes on: after a failure, a crash or a new night, the same command again.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Optional

from mmdysample.datasets.check import prepare_data
from mmdysample.engine.config import load_config
from mmdysample.engine.errors import exit_on_error, one_line
from mmdysample.engine.options import KeptOptions, positive
from mmdysample.paper.reader import TABLES, read_table
from mmdysample.paper.table import Table
from mmdysample.terminal.tables import FORMATS

from . import report
from .complexity import show_complexity
from .gallery import draw_gallery
from .lanes import check_gpus, make_lanes
from .measured import measured
from .picture import save_picture
from .plan import DATA, Planned, Settings, folder_name, plan
from .processes import Execute, execute
from .slurm import print_jobs
from .train_all import print_commands, train_all
from .training import Training, TrainingError

EPILOG = """\
examples:
  tools/reproduce.py faster_rcnn --dry-run                           the commands, and what needs no training
  tools/reproduce.py faster_rcnn --rows nearest DySample --gpus 0 1  two rows of the paper's table, a GPU each
  tools/reproduce.py mask_rcnn --gpus 0 1 2 3 4 5 6 7 --gpus-per-row 8
                                                                     each training on eight GPUs: 2 images each, the paper's batch
  tools/reproduce.py segformer --slurm gpu                           a job line for each row, to be submitted
  tools/reproduce.py boundary --data shapes                          a ranking on a laptop

A batch is that of the config times the GPUs of a row: detectors have 2 images a GPU (and a learning rate that follows the batch), depth
8 on two GPUs; segmenters have their whole batch of 16 on one.
"""


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('table', choices=[*TABLES, 'all'], metavar='TABLE', help=f'{", ".join(TABLES)}, or all')
    parser.add_argument(
        '--data',
        choices=DATA,
        help="coco: the paper's data, whichever they are (default); shapes: the built-in scenes, in minutes on a CPU",
    )
    parser.add_argument('--rows', nargs='+', default=[], metavar='ROW', help='rows by name (default: all)')
    parser.add_argument('--seeds', type=positive, metavar='N', help='trainings a row, with the seeds 0 to N - 1 (default: 1; boundary: 3)')
    parser.add_argument('--out', default='results', metavar='DIR', help='folder of the results (default: results)')
    parser.add_argument('--jobs', type=positive, default=1, metavar='N', help='trainings at a time without --gpus')
    parser.add_argument('--gpus', nargs='+', type=int, default=[], metavar='I', help='numbers of the GPUs to split the rows over')
    parser.add_argument(
        '--gpus-per-row',
        type=positive,
        default=1,
        metavar='N',
        help='GPUs of each training, each with the batch of the config (default: 1)',
    )
    parser.add_argument('--slurm', metavar='PARTITION', help='print a job line for each row that is not complete, and train nothing')
    parser.add_argument('--dry-run', action='store_true', help='print the commands and the table as it is, and train nothing')
    parser.add_argument(
        '--cfg-options', nargs='+', action=KeptOptions, metavar='KEY=VALUE', help='change every config, as in tools/train.py'
    )
    parser.add_argument('--format', default='text', choices=FORMATS)
    parser.set_defaults(raw_options=[])
    return parser


def main(root: Path, execute: Execute = execute, arguments: Optional[Sequence[str]] = None) -> int:
    """Do what the command line says.

    Args:
        root: The folder of ``tools``.
        execute: What runs a command.
        arguments: The command line; by default that of the process.

    Returns:
        The exit code: 1 if a row failed, 130 if it was interrupted.
    """
    args = make_parser().parse_args(arguments)
    with exit_on_error():
        tables = [read_table(name) for name in (TABLES if args.table == 'all' else [args.table])]
        if args.rows and len(tables) > 1:
            raise ValueError('--rows go with one table, not with all')
        if Path(args.out).is_file():
            raise ValueError(f'--out takes a folder, got the file {args.out}')
        tools = Path(os.path.relpath(root)) / 'tools'
        # A job of SLURM counts its own GPUs.
        lanes = [] if args.slurm and not args.gpus else make_lanes(tools, args.gpus, args.gpus_per_row, args.jobs)
        plans = {}
        for table in tables:
            data = args.data if args.data and table.experiments else 'coco' if _has(table, 'coco') or not table.experiments else 'shapes'
            if args.table == 'all' and table.experiments and not _has(table, data):
                continue  # an empty table would be written over the one of its own data
            settings = Settings(data, args.seeds or table.seeds, Path(args.out), args.cfg_options or {}, tuple(args.raw_options))
            with redirect_stdout(sys.stderr):  # mmengine prints which variables of the environment a config takes
                plans[table] = data, plan(table, settings, args.rows)
        for table, (data, planned) in plans.items():
            if args.table != 'all' and table.experiments and not any(one.trainings for one in planned):
                why = table.notes.get(planned[0].row.note or '', planned[0].missing)
                raise ValueError(f'nothing of {table.name} can be trained with --data {data}: {why}')
        pending = [training for training in _distinct(plans) if training.metrics is None]
        if args.slurm:
            print_jobs(plans, args)
            return 0
        if args.dry_run:
            for training in pending:
                print_commands(training, lanes[0])
            pending = []
        without_data: list[str] = []
        if pending:
            check_gpus(args.gpus)
            pending, without_data = with_data(pending, args.cfg_options or {})
    try:
        failures = train_all(pending, lanes, execute, f'training {args.table}') if pending else []
    except KeyboardInterrupt:
        print('interrupted: the same command goes on from here', file=sys.stderr)
        return 130
    with exit_on_error():
        for table, (data, planned) in plans.items():
            if table.experiments:
                show(table, planned, data, Path(args.out), args.format, write=not args.dry_run)
            else:
                show_complexity(table, planned, Path(args.out), args.format, measure=not args.dry_run)
    for line in [*without_data, *failures]:
        print(line, file=sys.stderr)
    return 1 if without_data or failures else 0


def _has(table: Table, data: str) -> bool:
    return any(data in experiment.configs for experiment in table.experiments.values())


def _distinct(plans: dict[Table, tuple[str, list[Planned]]]) -> list[Training]:
    """Every training once. The first seed of all rows comes before the second of any, so that a table is there early."""
    trainings = [(seed, training) for _, planned in plans.values() for one in planned for seed, training in enumerate(one.trainings)]
    unique = {training.folder: training for _, training in sorted(trainings, key=lambda pair: pair[0])}
    return list(unique.values())


def with_data(trainings: Sequence[Training], options: Mapping[str, object]) -> tuple[list[Training], list[str]]:
    """Leave out the trainings whose data is not there.

    Args:
        trainings: What is to be trained.
        options: What ``--cfg-options`` is given.

    Returns:
        Those that have data, and a line about each config that has none.

    Raises:
        ValueError: None has.
    """
    missing: dict[Path, str] = {}
    for path in dict.fromkeys(training.config for training in trainings):
        with redirect_stdout(sys.stderr):
            config = load_config(str(path), dict(options))
        if 'shapes' not in config:  # those are drawn when they are needed
            try:
                prepare_data(config, ('train', 'val', 'test'))
            except ValueError as error:
                missing[path] = one_line(error)
    if len(missing) == len({training.config for training in trainings}):
        raise ValueError(' '.join(dict.fromkeys(missing.values())))
    counts = Counter(training.config for training in trainings)
    lines = [f'not trained: {counts[path]} of {path.name}: {why}' for path, why in missing.items()]
    return [training for training in trainings if training.config not in missing], lines


def show(table: Table, planned: list[Planned], data: str, out: Path, form: str, write: bool) -> None:
    """Print a table and, unless nothing is to be written, save it as Markdown, CSV and PNG."""
    full = report.lines(table, planned, data)
    stem = out / folder_name(table, data)
    if write:
        out.mkdir(parents=True, exist_ok=True)
        whole = len(planned) == len(table.rows)
        stem = stem if whole else stem.with_name(f'{stem.name}_rows')
        stem.with_name(f'{stem.name}.md').write_text(report.text(table, full, planned, data, 'markdown') + '\n')
        stem.with_name(f'{stem.name}.csv').write_text(report.text(table, full, planned, data, 'csv') + '\n')
        save_picture(table, planned, data, stem.with_name(f'{stem.name}.png'))
    print(report.text(table, full, planned, data, form), end='\n\n' if form != 'csv' else '\n')
    if write and data == 'shapes' and 'mIoU' in table.metrics:
        try:
            # The ablation has detectors beside segmenters, which share neither an input nor classes.
            gallery = draw_gallery([one for one in planned if measured('mIoU', one.trainings)])
        except (ValueError, OSError, TrainingError) as error:  # a checkpoint was removed, say: the table stands without it
            print(f'no picture of predictions: {one_line(error)}', file=sys.stderr)
        else:
            if gallery:
                gallery.save(stem.with_name(f'{stem.name}_predictions.png'))
