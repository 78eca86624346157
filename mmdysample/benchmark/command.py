"""The command line of the benchmarks."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

from mmdysample.catalogue.twins import BASELINE, find_configs
from mmdysample.engine.errors import exit_on_error
from mmdysample.engine.options import positive
from mmdysample.engine.upsampler import parse_upsampler
from mmdysample.terminal.progress import long_progress
from mmdysample.terminal.tables import FORMATS, Row, render
from mmdysample.upsamplers import list_upsamplers
from mmdysample.upsamplers.builder import resolve

from .environment import DEVICES, DTYPES, Environment
from .figure import draw_figure, figure_points
from .files import OUT, PICTURE, formulation_columns, model_columns, new_results, to_csv, upsampler_columns
from .formulations import ROUNDS as FORMULATION_ROUNDS
from .formulations import SIZES, measure_formulations
from .models import UPSAMPLERS, measure_models
from .published import published_miou
from .report import (
    FIGURE_NOTE,
    FORMULATIONS_NOTE,
    IN_THE_FIGURE,
    LEFT,
    MODELS_NOTE,
    UPSAMPLERS_NOTE,
    explanation,
    formulation_table,
    model_table,
    target_table,
    upsampler_table,
)
from .targets import judge
from .textbook import VARIANTS
from .upsamplers import ROUNDS, SCALE_FACTOR, SECONDS, SIZE, measure_upsamplers


def parse_size(text: str) -> tuple[int, ...]:
    """Parse BxCxHxW."""
    return _numbers(text, 'BxCxHxW', 4)


def parse_image_size(text: str) -> tuple[int, ...]:
    """Parse HxW."""
    return _numbers(text, 'HxW', 2)


def _numbers(text: str, form: str, count: int) -> tuple[int, ...]:
    if not re.fullmatch(r'[1-9]\d*(x[1-9]\d*)*', text) or text.count('x') != count - 1:
        raise argparse.ArgumentTypeError(f'takes {form}, {count} positive integers, got {text}')
    return tuple(map(int, text.split('x')))


def duration(text: str) -> float:
    """Parse seconds."""
    if not re.fullmatch(r'\d+(\.\d*)?|\.\d+', text):
        raise argparse.ArgumentTypeError(f'takes a number of seconds, got {text}')
    return float(text)


def make_parser() -> argparse.ArgumentParser:
    """The command line, with a subcommand for each benchmark."""
    parser = argparse.ArgumentParser(
        description='Measure what upsamplers cost: alone (upsamplers, the default), in the models of configs/ (models), and DySample in '
        'all its formulations (textbook).'
    )
    commands = parser.add_subparsers(dest='what', required=True, metavar='{upsamplers,models,textbook}')

    alone = commands.add_parser('upsamplers', description='Latency, peak memory, parameters and FLOPs of each upsampler.', help='alone')
    alone.add_argument(
        '--upsamplers', nargs='+', metavar='NAME', help='names, or dicts in Python syntax (default: all; bilinear is always among them)'
    )
    alone.add_argument('--size', type=parse_size, default=SIZE, metavar='BxCxHxW', help='of the map (default: 1x256x120x120)')
    alone.add_argument('--scale-factor', type=positive, default=SCALE_FACTOR, metavar='S', help='default: 2')
    _add_rounds(alone, ROUNDS)
    _add_seconds(alone)
    _add_environment(alone)
    alone.add_argument('--compile', action='store_true', help='with torch.compile(fullgraph=True)')
    alone.add_argument('--unfold', action='store_true', help='also how much longer the formulation takes that unfolds the map')
    _add_output(alone)

    models = commands.add_parser(
        'models', description='FPS and peak memory of each model in configs/ with some upsamplers.', help='in models'
    )
    models.add_argument('--only', nargs='+', default=[], metavar='PATTERN', help='configs by (parts of) their names, with wildcards')
    models.add_argument('--upsamplers', nargs='+', metavar='NAME', help=f'names, or dicts (default: {" ".join(UPSAMPLERS)})')
    models.add_argument('--size', type=parse_image_size, metavar='HxW', help="of the network's input (default: as each config tests)")
    _add_rounds(models, 5)
    _add_environment(models)
    _add_output(models)

    textbook = commands.add_parser(
        'textbook',
        description="DySample's paths, the textbook formulation of its formula, eager and compiled, and the least that any could take.",
        help='DySample',
    )
    shapes = ', '.join('x'.join(map(str, size)) for size in SIZES)
    textbook.add_argument('--size', action='append', type=parse_size, metavar='BxCxHxW', help=f'again for another (default: {shapes})')
    textbook.add_argument('--type', default='DySample', choices=VARIANTS)
    textbook.add_argument('--scale-factor', type=positive, default=SCALE_FACTOR, metavar='S', help='default: 2')
    _add_rounds(textbook, FORMULATION_ROUNDS)
    _add_seconds(textbook)
    textbook.add_argument('--device', default='cpu', choices=DEVICES)
    textbook.add_argument(
        '--dtype', nargs='+', default=['float32', 'bfloat16'], choices=list(DTYPES), help='one or more (default: float32 bfloat16)'
    )
    _add_output(textbook, 'the CSV of each dtype')
    return parser


def _add_rounds(parser: argparse.ArgumentParser, default: int) -> None:
    parser.add_argument('--rounds', type=positive, default=default, metavar='N', help=f'timed calls of each, at least (default: {default})')


def _add_seconds(parser: argparse.ArgumentParser) -> None:
    text = f'how long to go on calling, about, for each pass (default: {SECONDS:g})'
    parser.add_argument('--seconds', type=duration, default=SECONDS, metavar='T', help=text)


def _add_environment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--device', default='cpu', choices=DEVICES)
    parser.add_argument('--dtype', default='float32', choices=list(DTYPES))
    parser.add_argument('--tf32', action='store_true', help='let CUDA compute float32 with TensorFloat-32')


def _add_output(parser: argparse.ArgumentParser, what: str = 'the CSV and the picture') -> None:
    parser.add_argument('--out', default=OUT, metavar='DIR', help=f'folder of {what} (default: {OUT})')
    parser.add_argument('--format', default='text', choices=FORMATS)


def run_upsamplers(args: argparse.Namespace, root: Path) -> int:
    """Measure upsamplers; print a table, and save a CSV and the figure."""
    environment = Environment.here(args.device, args.dtype, args.tf32, args.compile)
    if args.compile and args.unfold:
        raise ValueError('--unfold compares formulations as they are written: leave out --compile')
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
        _print_beside(f'written: {path}; no picture, for nothing that was measured has a published mIoU', args.format)
        return 0
    missing = [row.name for row in rows if row.name not in {point.name for point in points}]
    lines = [environment.sentence(), *([f'not drawn, for want of a time or a comparable mIoU: {", ".join(missing)}'] if missing else [])]
    picture = path.with_suffix(PICTURE)
    draw_figure(points, picture, f'x{args.scale_factor} upsampling of {shape}', '\n'.join(lines))
    _print_beside(f'written: {path} and {picture}', args.format)
    return 0


def run_models(args: argparse.Namespace, root: Path) -> int:
    """Measure models; print a table, and save a CSV, of those before an interruption, too."""
    environment = Environment.here(args.device, args.dtype, args.tf32)
    upsamplers = args.upsamplers or list(UPSAMPLERS)
    for upsampler in upsamplers:
        if upsampler != BASELINE:
            resolve(parse_upsampler(upsampler))
    with redirect_stdout(sys.stderr):  # mmengine prints which variables of the environment a config takes
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
        print('interrupted: what was measured until then is above', file=sys.stderr)
    return 130 if interrupted else 0


def run_textbook(args: argparse.Namespace, root: Path) -> int:
    """Measure DySample's formulations; print a table and the targets, and save a CSV for each dtype."""
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


def _print(cells: list[Row], title: str, environment: Environment, note: str, form: str) -> None:
    _print_beside(f'{title}; {environment.sentence()}', form)
    print(render(cells, form, [column for column in LEFT if column in cells[0]]))
    _print_beside(f'{explanation(environment)}\n{note}', form)


def _print_beside(text: str, form: str) -> None:
    """Print what is no part of the table: for a program there is the table alone."""
    if form != 'csv':
        print(text)


RUNS = {'upsamplers': run_upsamplers, 'models': run_models, 'textbook': run_textbook}


def main(root: Path, arguments: Sequence[str]) -> int:
    """Do what the command line says.

    Args:
        root: The folder of ``configs``.
        arguments: The command line; without a subcommand, it is that of ``upsamplers``.

    Returns:
        The exit code: 130 if it was interrupted.
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
