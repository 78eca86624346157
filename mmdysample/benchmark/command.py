"""The commands of ``tools/benchmark.py``: measure, print a table, and save a CSV and a picture."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import torch

from mmdysample.catalogue.twins import BASELINE, find_configs
from mmdysample.engine.errors import exit_on_error
from mmdysample.engine.upsampler import parse_upsampler
from mmdysample.terminal.progress import long_progress
from mmdysample.terminal.tables import Row, render
from mmdysample.upsamplers import list_upsamplers
from mmdysample.upsamplers.builder import resolve

from .blocks import block_table, measure_blocks, verdict
from .deployed import MODEL_UPSAMPLERS, measure_modules
from .deployed import measure_models as measure_deployed_models
from .environment import Environment
from .figure import draw_figure, figure_points
from .files import PICTURE, block_columns, file_columns, formulation_columns, model_columns, new_results, to_csv, upsampler_columns
from .formulations import SIZES, measure_formulations
from .gpu import run_gpu
from .models import UPSAMPLERS, measure_models
from .options import make_parser
from .published import published_miou
from .report import (
    BLOCKS_NOTE,
    DEPLOYED_NOTE,
    FIGURE_NOTE,
    FORMULATIONS_NOTE,
    IN_THE_FIGURE,
    LEFT,
    MODELS_NOTE,
    UPSAMPLERS_NOTE,
    deployed_table,
    explanation,
    formulation_table,
    model_table,
    target_table,
    upsampler_table,
)
from .targets import judge
from .upsamplers import SCALE_FACTOR, SIZE, measure_upsamplers


def run_upsamplers(args: argparse.Namespace, root: Path) -> int:
    """Measure upsamplers, print a table, and save a CSV and the figure."""
    environment = Environment.here(args.device, args.dtype, args.tf32, args.compile)
    if args.compile and args.unfold:
        raise ValueError('--unfold compares formulations in eager mode: leave out --compile')
    shape = 'x'.join(map(str, args.size))
    at = '' if (args.size, args.scale_factor) == (SIZE, SCALE_FACTOR) else f'_{shape}_x{args.scale_factor}'
    with new_results(Path(args.out), f'upsamplers_{environment.file_name}{at}') as (file, path):
        names = args.upsamplers or list_upsamplers()
        rows = measure_upsamplers(names, args.size, args.scale_factor, environment, args.rounds, args.seconds, args.unfold)
        beside = {'size': shape, 'scale_factor': args.scale_factor}
        file.write(to_csv([{**upsampler_columns(row), **beside} for row in rows], environment).encode())
    cells = upsampler_table(rows, args.size, args.scale_factor)
    note = f'{UPSAMPLERS_NOTE} {FIGURE_NOTE}' if IN_THE_FIGURE in cells[0] else UPSAMPLERS_NOTE
    _print(cells, f'x{args.scale_factor} of {shape}', environment, note, args.format)
    points = figure_points(rows, published_miou)
    if not points:
        _print_beside(f'written: {path}; no picture, because no measured upsampler has a published mIoU', args.format)
        return 0
    missing = [row.name for row in rows if row.name not in {point.name for point in points}]
    lines = [
        environment.sentence(),
        *([f'not drawn, without a time or a comparable mIoU: {", ".join(missing)}'] if missing else []),
    ]
    picture = path.with_suffix(PICTURE)
    draw_figure(points, picture, f'x{args.scale_factor} upsampling of {shape}', '\n'.join(lines))
    _print_beside(f'written: {path} and {picture}', args.format)
    return 0


def run_models(args: argparse.Namespace, root: Path) -> int:
    """Measure models, print a table and save a CSV. An interruption keeps the models that are complete."""
    environment = Environment.here(args.device, args.dtype, args.tf32)
    upsamplers = args.upsamplers or list(UPSAMPLERS)
    for upsampler in upsamplers:
        if upsampler != BASELINE:
            resolve(parse_upsampler(upsampler))
    with redirect_stdout(sys.stderr):  # mmengine prints the environment variables that a config reads
        configs = find_configs(Path(os.path.relpath(root)) / 'configs', patterns=args.only)
    at = '_{}x{}'.format(*args.size) if args.size else ''
    rows, interrupted = [], False
    with new_results(Path(args.out), f'models_{environment.file_name}{at}') as (file, path):
        try:
            with long_progress('measuring models', len(configs) * args.rounds) as advance:
                for row in measure_models(configs, upsamplers, args.size, environment, args.rounds, advance):
                    rows.append(row)
        except KeyboardInterrupt:
            interrupted = True
            if not rows:
                raise
        file.write(to_csv([model_columns(row) for row in rows], environment).encode())
    _print(model_table(rows), 'one image', environment, MODELS_NOTE, args.format)
    _print_beside(f'written: {path}', args.format)
    if interrupted:
        print('interrupted: the table above has what was measured until then', file=sys.stderr)
    return 130 if interrupted else 0


def run_textbook(args: argparse.Namespace, root: Path) -> int:
    """Measure the formulations of DySample, print a table and the targets, and save a CSV for each dtype."""
    environments = [Environment.here(args.device, dtype) for dtype in dict.fromkeys(args.dtype)]
    sizes = tuple(dict.fromkeys(args.size or SIZES))
    known = (args.type, args.scale_factor) == ('DySample', SCALE_FACTOR)
    at = '' if known else f'_{args.type.lower().replace("+", "-plus")}_x{args.scale_factor}'
    at += '' if sizes == SIZES else '_' + '_'.join('x'.join(map(str, size)) for size in sizes)
    rows, paths = [], []
    for environment in environments:
        with new_results(Path(args.out), f'textbook_{environment.file_name}{at}') as (file, path):
            measured = measure_formulations(args.type, sizes, args.scale_factor, environment, args.rounds, args.seconds)
            beside = {'type': args.type, 'scale_factor': args.scale_factor}
            file.write(to_csv([{**formulation_columns(row), **beside} for row in measured], environment).encode())
        rows += measured
        paths.append(str(path))
    all_dtypes = replace(environments[0], dtype=' and '.join(environment.dtype for environment in environments))
    _print(formulation_table(rows), f'{args.type} x{args.scale_factor}', all_dtypes, FORMULATIONS_NOTE, args.format)
    if known:
        verdicts = render(target_table(judge(rows, args.device)), args.format, ('target',))
        _print_beside(f'targets at {"x".join(map(str, SIZE))}, float32:\n{verdicts}', args.format)
    _print_beside(f'written: {" and ".join(paths)}', args.format)
    return 0


def run_deployed(args: argparse.Namespace, root: Path) -> int:
    """Measure exported files, print a table, and save a CSV."""
    environment = Environment.here()
    for upsampler in args.upsamplers or []:
        resolve(parse_upsampler(upsampler))
    with redirect_stdout(sys.stderr):  # mmengine prints the environment variables that a config reads
        configs = find_configs(Path(os.path.relpath(root)) / 'configs', patterns=args.only) if args.only else {}
    with new_results(Path(args.out), f'deployed_{environment.file_name}') as (file, path):
        rows = measure_modules(args.upsamplers or list_upsamplers(), args.size, args.rounds, args.seconds)
        rows += measure_deployed_models(configs, args.upsamplers or MODEL_UPSAMPLERS, args.image, args.rounds, args.seconds)
        file.write(to_csv([file_columns(row) for row in rows], environment).encode())
    _print(deployed_table(rows), 'exported files', environment, DEPLOYED_NOTE, args.format)
    _print_beside(f'written: {path}', args.format)
    return 0


def run_blocks(args: argparse.Namespace, root: Path) -> int:
    """Measure block sizes of the kernels, print the fastest beside those in use, and save a CSV for each dtype."""
    if not torch.cuda.is_available():
        raise ValueError('blocks times the kernels on a GPU, but torch sees none')
    environments = [Environment.here('cuda', dtype) for dtype in ('float32', 'float16')]
    rows, paths = [], []
    for environment in environments:
        with new_results(Path(args.out), f'blocks_{environment.file_name}') as (file, path):
            measured = measure_blocks(environment)
            file.write(to_csv([block_columns(row) for row in measured], environment).encode())
        rows += measured
        paths.append(str(path))
    table = block_table(rows)
    _print(table, 'block sizes', replace(environments[0], dtype='float32 and float16'), BLOCKS_NOTE, args.format)
    _print_beside(f'written: {" and ".join(paths)}\n{verdict(table)}', args.format)
    return 0


def _print(cells: list[Row], title: str, environment: Environment, note: str, form: str) -> None:
    _print_beside(f'{title}; {environment.sentence()}', form)
    print(render(cells, form, [column for column in LEFT if column in cells[0]]))
    _print_beside(f'{explanation(environment)}\n{note}', form)


def _print_beside(text: str, form: str) -> None:
    """Print a text beside the table, except with CSV, whose output must hold the table only."""
    if form != 'csv':
        print(text)


RUNS = {
    'upsamplers': run_upsamplers,
    'models': run_models,
    'textbook': run_textbook,
    'deployed': run_deployed,
    'blocks': run_blocks,
    'gpu': run_gpu,
}


def main(root: Path, arguments: Sequence[str]) -> int:
    """Run the command.

    Args:
        root: The folder that holds ``configs``.
        arguments: The command line. Without a subcommand, ``upsamplers`` is meant.

    Returns:
        The exit code: 0, or 130 if it was interrupted.
    """
    if not arguments or (arguments[0].startswith('-') and arguments[0] not in ('-h', '--help')):
        arguments = ['upsamplers', *arguments]
    args = make_parser().parse_args(arguments)
    try:
        with exit_on_error():
            return RUNS[args.what](args, root)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130
