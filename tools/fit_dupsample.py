"""Fit DUpsample's matrix to the label maps of a config's training set, and save it."""

import argparse
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from mmdysample.datasets.check import prepare_data
from mmdysample.engine.config import load_config
from mmdysample.engine.errors import exit_on_error
from mmdysample.engine.options import Options
from mmdysample.frameworks import require


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file of mmsegmentation')
    parser.add_argument('--scale-factor', type=int, required=True, metavar='S', help='size of a window of labels: the ratio of the head')
    parser.add_argument('--channels', type=int, default=64, help='numbers in the code of a window (default: 64)')
    parser.add_argument('--windows', type=int, default=100_000, help='how many windows to fit to, at most (default: 100000)')
    parser.add_argument('--out', help='file to save (default: work_dirs/dupsample_<config>_x<S>.pth)')
    parser.add_argument('--seed', type=int, default=0, help='of the choice of windows (default: 0)')
    parser.add_argument('--cfg-options', nargs='+', action=Options, metavar='KEY=VALUE', help='change the config')
    args = parser.parse_args()
    with exit_on_error():
        for name in ('scale_factor', 'channels', 'windows'):
            if getattr(args, name) < 1:
                raise ValueError(f'--{name.replace("_", "-")} must be a positive integer, got {getattr(args, name)}')
        out = Path(args.out or f'work_dirs/dupsample_{Path(args.config).stem}_x{args.scale_factor}.pth')
        if out.exists():
            raise ValueError(f'{out} exists: remove it, or choose another --out')
        require('mmseg', 'tools/fit_dupsample.py')
        from mmdysample.analysis.dupsample_fit import fit_matrix, label_dataset, reconstruction_miou

        config = load_config(args.config, args.cfg_options)
        prepare_data(config, ('train', 'val'))
        train = label_dataset(config, 'train')
        matrix = fit_matrix(train, args.scale_factor, args.channels, args.windows, args.seed)
        scores = reconstruction_miou(label_dataset(config, 'val'), matrix, args.scale_factor)
        out.parent.mkdir(parents=True, exist_ok=True)
        classes = list(train.metainfo['classes'])
        torch.save({'W': matrix, 'P': matrix.T.contiguous(), 'scale_factor': args.scale_factor, 'classes': classes}, out)
    table = Table(title=f'labels told at 1/{args.scale_factor} of the size, decoded: mIoU (%) on the validation set')
    for name in scores:
        table.add_column(name, justify='right')
    table.add_row(*(f'{score:.2f}' for score in scores.values()))
    Console().print(table)
    print(f'matrix: {out}')


if __name__ == '__main__':
    main()
