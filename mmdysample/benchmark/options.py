"""The command line of the benchmarks: a subcommand for each, with its options."""

import argparse
import re

from mmdysample.engine.options import positive
from mmdysample.terminal.tables import FORMATS

from .deployed import IMAGE as DEPLOYED_IMAGE
from .deployed import MODELS as DEPLOYED_MODELS
from .deployed import ROUNDS as DEPLOYED_ROUNDS
from .deployed import SECONDS as DEPLOYED_SECONDS
from .deployed import SIZE as DEPLOYED_SIZE
from .environment import DEVICES, DTYPES
from .files import GPU_OUT, OUT
from .formulations import ROUNDS as FORMULATION_ROUNDS
from .formulations import SIZES
from .models import UPSAMPLERS
from .textbook import VARIANTS
from .upsamplers import ROUNDS, SCALE_FACTOR, SECONDS, SIZE


def parse_size(text: str) -> tuple[int, ...]:
    """Parse the size of a feature map, ``BxCxHxW``."""
    return _numbers(text, 'BxCxHxW', 4)


def parse_image_size(text: str) -> tuple[int, ...]:
    """Parse the size of an image, ``HxW``."""
    return _numbers(text, 'HxW', 2)


def _numbers(text: str, form: str, count: int) -> tuple[int, ...]:
    if not re.fullmatch(r'[1-9]\d*(x[1-9]\d*)*', text) or text.count('x') != count - 1:
        raise argparse.ArgumentTypeError(f'takes {form}, {count} positive integers, got {text}')
    return tuple(map(int, text.split('x')))


def duration(text: str) -> float:
    """Parse a number of seconds."""
    if not re.fullmatch(r'\d+(\.\d*)?|\.\d+', text):
        raise argparse.ArgumentTypeError(f'takes a number of seconds, got {text}')
    return float(text)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, with a subcommand for each benchmark."""
    parser = argparse.ArgumentParser(
        description='Measure the cost of upsamplers: alone (upsamplers, the default), in the models of configs/ (models), of all '
        'formulations of DySample (textbook), or of exported files (deployed). Time block sizes of the kernels (blocks), or do everything '
        'that waits for a GPU (gpu).'
    )
    commands = parser.add_subparsers(dest='what', required=True, metavar='{upsamplers,models,textbook,deployed,blocks,gpu}')

    alone = commands.add_parser('upsamplers', description='Latency, peak memory, parameters and FLOPs of each upsampler.', help='alone')
    alone.add_argument(
        '--upsamplers', nargs='+', metavar='NAME', help='names, or dicts in Python syntax (default: all; bilinear is always among them)'
    )
    alone.add_argument('--size', type=parse_size, default=SIZE, metavar='BxCxHxW', help='size of the feature map (default: 1x256x120x120)')
    alone.add_argument('--scale-factor', type=positive, default=SCALE_FACTOR, metavar='S', help='default: 2')
    _add_rounds(alone, ROUNDS)
    _add_seconds(alone)
    _add_environment(alone)
    alone.add_argument('--compile', action='store_true', help='compile each upsampler with torch.compile(fullgraph=True)')
    alone.add_argument('--unfold', action='store_true', help='also measure the slowdown of the formulation with F.unfold')
    _add_output(alone)

    models = commands.add_parser(
        'models', description='FPS and peak memory of each model in configs/ with some upsamplers.', help='in models'
    )
    models.add_argument('--only', nargs='+', default=[], metavar='PATTERN', help='configs by (parts of) their names, with wildcards')
    models.add_argument('--upsamplers', nargs='+', metavar='NAME', help=f'names, or dicts (default: {" ".join(UPSAMPLERS)})')
    models.add_argument('--size', type=parse_image_size, metavar='HxW', help="size of the network's input (default: as each config tests)")
    _add_rounds(models, 5)
    _add_environment(models)
    _add_output(models)

    textbook = commands.add_parser(
        'textbook',
        description='The paths (implementations) of DySample, the textbook formulation, eager and compiled, and the floor, the time that '
        'the memory traffic alone takes.',
        help='DySample',
    )
    shapes = ', '.join('x'.join(map(str, size)) for size in SIZES)
    textbook.add_argument(
        '--size',
        action='append',
        type=parse_size,
        metavar='BxCxHxW',
        help=f'size of the map; repeat for several (default: {shapes})',
    )
    textbook.add_argument('--type', default='DySample', choices=VARIANTS)
    textbook.add_argument('--scale-factor', type=positive, default=SCALE_FACTOR, metavar='S', help='default: 2')
    _add_rounds(textbook, FORMULATION_ROUNDS)
    _add_seconds(textbook)
    textbook.add_argument('--device', default='cpu', choices=DEVICES)
    textbook.add_argument(
        '--dtype', nargs='+', default=['float32', 'bfloat16'], choices=list(DTYPES), help='one or more (default: float32 bfloat16)'
    )
    _add_output(textbook, 'the CSV of each dtype')

    deployed = commands.add_parser(
        'deployed',
        description='Exported files in the runtimes that are installed (onnxruntime, OpenVINO): each upsampler alone, and whole models.',
        help='exported files',
    )
    deployed.add_argument('--upsamplers', nargs='+', metavar='NAME', help='names, or dicts (default: all)')
    deployed.add_argument(
        '--size', type=parse_size, default=DEPLOYED_SIZE, metavar='BxCxHxW', help='size of the feature map (default: 1x256x60x60)'
    )
    deployed.add_argument(
        '--only', nargs='*', default=list(DEPLOYED_MODELS), metavar='PATTERN', help='configs of whole models (default: segformer_b1)'
    )
    deployed.add_argument(
        '--image',
        type=parse_image_size,
        default=DEPLOYED_IMAGE,
        metavar='HxW',
        help='size of the image for whole models (default: 512x512)',
    )
    _add_rounds(deployed, DEPLOYED_ROUNDS)
    _add_seconds(deployed, DEPLOYED_SECONDS)
    _add_output(deployed, 'the CSV')

    blocks = commands.add_parser(
        'blocks', description='Block sizes of the kernels: the fastest on this GPU, beside those in use.', help='block sizes of the kernels'
    )
    _add_output(blocks, 'the CSV of each dtype')

    gpu = commands.add_parser(
        'gpu',
        description='Everything that waits for a GPU: the tests of the kernels, every upsampler on CUDA, a training in mixed precision, '
        'peak memory, the textbook table and block sizes. One line for each says whether it passed; the exit code is 1 if any failed. '
        'Without a GPU, each step goes as far as it can on a CPU, and nothing is written.',
        help='everything that waits for a GPU',
    )
    gpu.add_argument('--out', default=GPU_OUT, metavar='DIR', help=f'folder for the results on a GPU (default: {GPU_OUT})')
    return parser


def _add_rounds(parser: argparse.ArgumentParser, default: int) -> None:
    parser.add_argument(
        '--rounds', type=positive, default=default, metavar='N', help=f'minimum number of timed calls of each (default: {default})'
    )


def _add_seconds(parser: argparse.ArgumentParser, default: float = SECONDS) -> None:
    text = f'approximate duration of each pass in seconds (default: {default:g})'
    parser.add_argument('--seconds', type=duration, default=default, metavar='T', help=text)


def _add_environment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--device', default='cpu', choices=DEVICES)
    parser.add_argument('--dtype', default='float32', choices=list(DTYPES))
    parser.add_argument('--tf32', action='store_true', help='allow TensorFloat-32 for float32 on CUDA')


def _add_output(parser: argparse.ArgumentParser, what: str = 'the CSV and the picture') -> None:
    parser.add_argument('--out', default=OUT, metavar='DIR', help=f'folder for {what} (default: {OUT})')
    parser.add_argument('--format', default='text', choices=FORMATS)
