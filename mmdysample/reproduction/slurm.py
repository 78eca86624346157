"""Job lines for SLURM, one for each row of a table."""

import argparse
import shlex
import sys
from pathlib import Path

from mmdysample.paper.table import Table

from .plan import Planned, folder_name


def print_jobs(plans: dict[Table, tuple[str, list[Planned]]], args: argparse.Namespace) -> None:
    """Print an ``sbatch`` line for each incomplete row, whose job runs this command for the row. Rows that share a training share a job."""
    count = args.gpus_per_row
    taken: set[Path] = set()
    for table, (data, planned) in plans.items():
        for one in planned:
            if all(training.metrics is not None or training.folder in taken for training in one.trainings):
                continue
            taken.update(training.folder for training in one.trainings)
            command = [sys.executable, '-W', 'ignore', sys.argv[0], table.name, '--data', data, '--rows', one.row.name]
            command += ['--seeds', str(len(one.trainings)), '--out', args.out]
            command += ['--results', args.results] if args.results else []
            command += ['--gpus', *map(str, range(count)), '--gpus-per-row', str(count)]
            command += ['--cfg-options', *args.raw_options] if args.raw_options else []
            job = f'{folder_name(table, data)}-{one.row.name}'
            options = [f'--partition={args.slurm}', f'--job-name={job}', f'--gres=gpu:{count}', f'--cpus-per-task={5 * count}']
            print(shlex.join(['sbatch', *options, '--wrap', shlex.join(command)]))
    several = f' and with --gpus {" ".join(map(str, range(count)))}' if count > 1 else ''
    print(f'when the jobs have ended, the same command without --slurm{several} writes the whole table', file=sys.stderr)
