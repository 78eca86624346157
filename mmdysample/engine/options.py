"""Command-line options shared by training, testing and drawing."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction

from mmdysample.datasets.check import prepare_data
from mmdysample.datasets.custom import Split, use_folder
from mmdysample.frameworks import require

from .checkpoint import TRUST_FLAG, secure_loading
from .config import load_config
from .launch import set_launcher, set_work_dir
from .panoptic import stand_in_for_panopticapi
from .upsampler import use_upsampler

BRACKETS = '()[]{}'


class Options(DictAction):
    """Parse ``KEY=VALUE ...``, and print a usage message for anything else.

    A path keeps its spaces, which mmengine would remove, and in quotes its commas, too.
    """

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        pairs = dict(value.split('=', maxsplit=1) for value in values if '=' in value)
        texts = {key: _unquoted(value) for key, value in pairs.items() if _is_text(value)}
        others = [value for value in values if value.partition('=')[0] not in texts]
        try:
            super().__call__(parser, namespace, others, option_string)
        except (ValueError, AssertionError, SyntaxError) as error:
            parser.error(f'--cfg-options takes KEY=VALUE pairs: {error}')
        getattr(namespace, self.dest).update(texts)


def _is_text(value: str) -> bool:
    inner = _unquoted(value)
    if not set(inner.strip()) & {' ', ','} or inner[0] in BRACKETS:
        return False
    return inner != value or not set(inner) & {',', *BRACKETS}


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in '\'"' else value


class KeptOptions(Options):
    """Parse ``KEY=VALUE ...``, and append the unparsed arguments to ``raw_options``."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        super().__call__(parser, namespace, values, option_string)
        namespace.raw_options = [*namespace.raw_options, *values]


def positive(text: str) -> int:
    """Parse a positive integer."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'takes a positive integer, got {text}')
    return int(text)


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the shared options. The config is its first positional argument."""
    parser = argparse.ArgumentParser(description=description)
    add_options(parser)
    return parser


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the config and the shared options to a parser."""
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='work directory, where results are saved (default: work_dirs/<name of the config>)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Options,
        metavar='KEY=VALUE',
        help='change the config, e.g. model.neck.upsample_cfg.type=DySample+ model.backbone.init_cfg=None (no pretrained weights)',
    )
    parser.add_argument(
        '--upsampler',
        metavar='NAME',
        help='upsampler for every module of the model that takes an upsample_cfg: a name, or a dict in Python syntax, '
        'e.g. "dict(type=\'DySample\', groups=2)"',
    )
    data = parser.add_argument_group('your own data')
    data.add_argument(
        '--data-root',
        metavar='DIR',
        help="folder in COCO's format, or of images and label maps or depth maps; overrides COCO_ROOT, ADE20K_ROOT, "
        'NYU_ROOT and NUCLEI_ROOT',
    )
    for split, name in (('train', 'training'), ('val', 'validation')):
        data.add_argument(
            f'--{split}-ann',
            metavar='PATH',
            help=f"{name} annotations: a file in COCO's format (default: annotations/instances_{split}*.json), "
            f'or a folder of label maps or depth maps (default: annotations/{split}*/)',
        )
        data.add_argument(
            f'--{split}-img', metavar='DIR', help=f"{name} images (default: {split}*/ in COCO's format, images/{split}*/ for maps)"
        )
    data.add_argument(
        '--classes',
        metavar='A,B,C',
        help='names of the classes: for label maps in the order of their values (default: classes.txt in the data folder, one a line); '
        "in COCO's format a choice of the categories (default: all)",
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='how processes are started; see tools/dist_train.sh'
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='rank of this process, passed by old launchers')
    parser.add_argument(
        TRUST_FLAG, action='store_true', help='also load checkpoints that can run code; only for files from people you trust'
    )


def read_config(args: argparse.Namespace, splits: Iterable[str], log_to: str = '.', check: bool = True) -> Config:
    """Read the config and apply the shared options to it.

    Args:
        args: The parsed arguments.
        splits: The splits that will be used, of ``'train'``, ``'val'`` and ``'test'``.
        log_to: The folder within the work directory for the runner's log and its copy of the config. Testing uses another folder than
            training, because users resume and test with the copy that training saved.
        check: Whether to look at the data, as everything does that uses it.

    Returns:
        The config, whose data is present if it was looked at.

    Raises:
        ImportError: The config's framework is not installed.
        ValueError: The config, an option or the data is invalid.
    """
    secure_loading(args.trust_checkpoint)
    config = load_config(args.config, args.cfg_options)
    if config.get('default_scope') in ('mmdet', 'mmseg'):
        require(config.default_scope, args.config)
    for line in stand_in_for_panopticapi(config):
        print(line)
    name = Path(args.config).stem
    if args.upsampler is not None:
        name = f'{name}_{use_upsampler(config, args.upsampler, args.cfg_options)}'
        config.pop('work_dir', None)  # the saved config of a run holds that run's work directory
    set_work_dir(config, name, args.work_dir, log_to)
    set_launcher(config, args.launcher, args.local_rank)
    given = {'train': Split(args.train_ann, args.train_img), 'val': Split(args.val_ann, args.val_img)}
    wanted = given if 'train' in splits else {'val': given['val']}
    if args.data_root:
        classes = None if args.classes is None else args.classes.split(',')
        for line in use_folder(config, args.data_root, wanted, classes, args.cfg_options):
            print(line)
    elif args.classes is not None or any(value for split in given.values() for value in split):
        raise ValueError('--train-ann, --val-ann, --train-img, --val-img and --classes go with --data-root')
    if check:
        prepare_data(config, splits)
    return config
