"""Train and test the rows of the paper's tables, and print your results beside the published ones.

Complete trainings are kept, and interrupted ones resume: after a failure or a crash, run the same command again.
"""

import argparse
import io
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
from .processes import require_posix
from .results import Place, stale
from .running import Execute, Processes
from .slurm import print_jobs
from .train_all import print_commands, train_all
from .training import Training, TrainingError

EPILOG = """\
examples:
  tools/reproduce.py faster_rcnn --dry-run                           print the commands and the table as it is
  tools/reproduce.py faster_rcnn --rows nearest DySample --gpus 0 1  two rows of the paper's table, a GPU each
  tools/reproduce.py mask_rcnn --gpus 0 1 2 3 4 5 6 7 --gpus-per-row 8
                                                                     each training on eight GPUs with 2 images each: the paper's batch
  tools/reproduce.py segformer --slurm gpu                           print a job line for each row, to submit
  tools/reproduce.py boundary --data shapes                          rank the upsamplers on a laptop
  tools/reproduce.py nuclei --jobs 2                                 real images: what is in docs/results is shown, the rest is trained

The batch size is that of the config times the GPUs of a row. Detectors have 2 images per GPU, and their learning rate scales with the
batch; depth has 8 images on each of two GPUs; segmenters have their whole batch of 16 on one GPU.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = f'{", ".join(TABLES)}; nuclei for the three tables of that name; or all'
    parser.add_argument('table', choices=[*TABLES, 'nuclei', 'all'], metavar='TABLE', help=names)
    parser.add_argument(
        '--data',
        choices=DATA,
        help="coco: the paper's dataset, also where that is ADE20K or NYU (default); shapes: the built-in scenes, minutes on a CPU; "
        'nuclei: real microscopy images, in NUCLEI_ROOT or data/nuclei',
    )
    parser.add_argument('--rows', nargs='+', default=[], metavar='ROW', help='rows by name (default: all)')
    parser.add_argument(
        '--against',
        metavar='ROW',
        help='compare each row with this one (default: with the stock interpolation); not with --data coco',
    )
    parser.add_argument(
        '--seeds', type=positive, metavar='N', help='trainings per row, with seeds 0 to N - 1 (default: 1; boundary: 3; nuclei: 5)'
    )
    parser.add_argument('--out', default='results', metavar='DIR', help='folder of the results (default: results)')
    parser.add_argument(
        '--results',
        metavar='DIR',
        help='for nuclei: a folder with a line for each complete training, which is not done again (default: docs/results of this '
        'repository; name a new folder to train everything yourself)',
    )
    parser.add_argument('--jobs', type=positive, default=1, metavar='N', help='trainings at a time without --gpus')
    parser.add_argument('--gpus', nargs='+', type=int, default=[], metavar='I', help='indices of the GPUs to share among the rows')
    parser.add_argument(
        '--gpus-per-row',
        type=positive,
        default=1,
        metavar='N',
        help='GPUs of each training, each with the batch of the config (default: 1)',
    )
    parser.add_argument('--slurm', metavar='PARTITION', help='print a job line for each row that is not complete, without training')
    parser.add_argument('--dry-run', action='store_true', help='print the commands and the table as it is, without training')
    parser.add_argument(
        '--cfg-options', nargs='+', action=KeptOptions, metavar='KEY=VALUE', help='change every config, as in tools/train.py'
    )
    parser.add_argument('--format', default='text', choices=FORMATS)
    parser.set_defaults(raw_options=[])
    return parser


def main(root: Path, execute: Optional[Execute] = None, arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command.

    Args:
        root: The folder that holds ``tools``.
        execute: What runs the commands; by default, processes.
        arguments: The command line; by default, that of this process.

    Returns:
        The exit code: 0, or 1 if a row failed.
    """
    args = make_parser().parse_args(arguments)
    with exit_on_error():
        tables = [read_table(name) for name in names_of(args.table)]
        if args.rows and len(tables) > 1:
            raise ValueError(f'--rows needs one table, not {args.table}')
        if args.against and len(tables) > 1:
            raise ValueError(f'--against needs one table, not {args.table}')
        _check_options(args)
        if Path(args.out).is_file():
            raise ValueError(f'--out takes a folder, got the file {args.out}')
        kept = Path(args.results or Path(os.path.relpath(root)) / 'docs/results')
        if Path(args.out).resolve() == kept.resolve():
            raise ValueError(f'--out {args.out} is the folder of --results, whose files would be overwritten: choose another --out')
        tools = Path(os.path.relpath(root)) / 'tools'
        # A SLURM job shares out its own GPUs, so this machine needs none.
        lanes = [] if args.slurm and not args.gpus else make_lanes(tools, args.gpus, args.gpus_per_row, args.jobs)
        plans = {}
        told = io.StringIO()
        for table in tables:
            own = next((data for data in DATA if _has(table, data)), 'coco')
            data = args.data if args.data and table.experiments else own
            if args.table == 'all' and table.experiments and not _has(table, data):
                continue  # its empty table would overwrite the table of the data that it has
            results = kept if data == 'nuclei' else None
            seeds, raw = args.seeds or table.seeds, tuple(args.raw_options)
            settings = Settings(data, seeds, Path(args.out), args.cfg_options or {}, raw, results, args.gpus_per_row)
            if args.against and (data == 'coco' or not table.experiments):
                raise ValueError(f'--against is for --data shapes and nuclei: the rows of {table.name} are compared with published numbers')
            if args.against and seeds < 2:
                raise ValueError(f'--against compares over seeds and needs at least two, got --seeds {seeds}')
            with redirect_stdout(told):  # mmengine prints the environment variables that a config reads, for each row
                plans[table] = data, plan(table, settings, args.rows, args.against)
        for line in dict.fromkeys(line.rpartition(' - INFO - ')[2] for line in told.getvalue().splitlines() if line.strip()):
            print(line, file=sys.stderr)
        for table, (data, planned) in plans.items():
            if args.table != 'all' and table.experiments and not any(one.trainings for one in planned):
                why = table.notes.get(planned[0].row.note or '', planned[0].missing)
                raise ValueError(f'nothing of {table.name} can be trained with --data {data}: {why}')
        trainings = _distinct(plans)
        for line in stale_lines(trainings):
            print(line, file=sys.stderr)
        if not args.dry_run and not args.slurm:
            keep_all(trainings)
        pending = [training for training in trainings if training.metrics is None]
        if args.slurm:
            print_jobs(plans, args)
            return 0
        if args.dry_run:
            for training in pending:
                print_commands(training, lanes[0])
            pending = []
        without_data: list[str] = []
        if pending:
            require_posix()
            check_gpus(args.gpus)
            pending, without_data = with_data(pending, args.cfg_options or {})
    with exit_on_error(()):
        failures = train_all(pending, lanes, execute or Processes(), f'training {args.table}') if pending else []
    with exit_on_error():
        for table, (data, planned) in plans.items():
            if table.experiments:
                show(table, planned, data, Path(args.out), args.format, not args.dry_run, args.against)
            else:
                show_complexity(table, planned, Path(args.out), args.format, measure=not args.dry_run)
    for line in [*without_data, *failures]:
        print(line, file=sys.stderr)
    return 1 if without_data or failures else 0


def _check_options(args: argparse.Namespace) -> None:
    """Raise ValueError for an option that would have no effect."""
    if args.results and not (args.table.startswith('nuclei') or args.table == 'all'):
        raise ValueError(f'--results is for nuclei: the results of {args.table} are in --out')
    if args.gpus and args.jobs > 1:
        raise ValueError('--jobs is for trainings without --gpus, which says by itself how many run at a time: leave it out')
    trains = ('data', 'seeds', 'gpus', 'slurm', 'raw_options')
    given = [f'--{name.replace("raw", "cfg").replace("_", "-")}' for name in trains if getattr(args, name)]
    given += ['--jobs'] if args.jobs > 1 else []
    if args.table == 'complexity' and given:
        raise ValueError(f'complexity trains nothing and takes no {", ".join(given)}; CUDA_VISIBLE_DEVICES chooses its GPU')


def names_of(table: str) -> list[str]:
    """Return the names of the tables that an argument of the command means."""
    return [name for name in TABLES if table in ('all', name) or (table == 'nuclei' and name.startswith('nuclei_'))]


def keep_all(trainings: Sequence[Training]) -> None:
    """Keep what was complete when an earlier call was killed before it could be kept. The table can be shown even if that fails."""
    for training in trainings:
        try:
            training.keep()
        except (OSError, ValueError) as error:
            print(f'not kept: {training.name}: {one_line(error)}', file=sys.stderr)


def stale_lines(trainings: Sequence[Training]) -> list[str]:
    """Return a line for each file of results that has lines of another version of the config."""
    places: dict[Path, list[Place]] = {}
    for training in trainings:
        if training.place is not None:
            places.setdefault(training.place.file, []).append(training.place)
    counts = {file: stale(file, of_file) for file, of_file in places.items()}
    why = 'are of another version of the config, other --cfg-options or another number of GPUs, and are not used'
    return [f'{count} lines of {file} {why}' for file, count in counts.items() if count]


def _has(table: Table, data: str) -> bool:
    return any(data in experiment.configs for experiment in table.experiments.values())


def _distinct(plans: dict[Table, tuple[str, list[Planned]]]) -> list[Training]:
    """Return each training once. The first seed of all rows precedes the second seed of any row, so that the table fills early."""
    trainings = [(seed, training) for _, planned in plans.values() for one in planned for seed, training in enumerate(one.trainings)]
    unique = {training.folder: training for _, training in sorted(trainings, key=lambda pair: pair[0])}
    return list(unique.values())


def with_data(trainings: Sequence[Training], options: Mapping[str, object]) -> tuple[list[Training], list[str]]:
    """Leave out the trainings whose data is missing.

    Args:
        trainings: The trainings to run.
        options: The values of ``--cfg-options``.

    Returns:
        The trainings that have data, and a line for each config whose data is missing.

    Raises:
        ValueError: The data of all trainings is missing.
    """
    missing: dict[Path, str] = {}
    for path in dict.fromkeys(training.config for training in trainings):
        with redirect_stdout(sys.stderr):  # stdout is for tables
            config = load_config(str(path), dict(options))
            if 'shapes' not in config:  # the scenes of Shapes are rendered on demand
                try:
                    prepare_data(config, ('train', 'val', 'test'))
                except ValueError as error:
                    missing[path] = one_line(error)
    if len(missing) == len({training.config for training in trainings}):
        raise ValueError(' '.join(dict.fromkeys(missing.values())))
    counts = Counter(training.config for training in trainings)
    lines = [f'not trained: {counts[path]} of {path.name}: {why}' for path, why in missing.items()]
    return [training for training in trainings if training.config not in missing], lines


def show(table: Table, planned: list[Planned], data: str, out: Path, form: str, write: bool, against: Optional[str]) -> None:
    """Print a table and, if ``write``, save it as Markdown, CSV and PNG in the folder ``out``."""
    full = report.lines(table, planned, data)
    stem = out / folder_name(table, data)
    if write:
        out.mkdir(parents=True, exist_ok=True)
        whole = len(planned) == len(table.rows)
        stem = stem if whole else stem.with_name(f'{stem.name}_rows')
        stem = stem.with_name(f'{stem.name}_against_{against}') if against else stem
        stem.with_name(f'{stem.name}.md').write_text(report.text(table, full, planned, data, 'markdown') + '\n', encoding='utf-8')
        stem.with_name(f'{stem.name}.csv').write_text(report.text(table, full, planned, data, 'csv') + '\n', encoding='utf-8')
        save_picture(table, planned, data, stem.with_name(f'{stem.name}.png'))
    print(report.text(table, full, planned, data, form), end='\n\n' if form != 'csv' else '\n')
    if write and data != 'coco' and 'mIoU' in table.metrics:
        try:
            # The ablation also has detectors, whose images and classes are not those of its segmenters.
            segmenters = [one for one in planned if measured('mIoU', one.trainings)]
            gallery = draw_gallery(segmenters, close_to='border' if 'border IoU' in table.metrics else '')
        except (ValueError, OSError, TrainingError) as error:  # for example, a checkpoint was removed; the table does not need it
            print(f'no picture of predictions: {one_line(error)}', file=sys.stderr)
        else:
            if gallery:
                gallery.save(stem.with_name(f'{stem.name}_predictions.png'))
