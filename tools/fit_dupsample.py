"""Fit DUpsample's matrix to the label maps of a config's training set, and save it."""

import argparse
from pathlib import Path

from mmdysample.engine.errors import exit_on_error

with exit_on_error():
    import torch
    from rich.console import Console
    from rich.table import Table

    from mmdysample.datasets.check import prepare_data
    from mmdysample.datasets.source import last_head
    from mmdysample.engine.config import load_config
    from mmdysample.engine.files import new_file
    from mmdysample.engine.options import Options
    from mmdysample.frameworks import require


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file of mmsegmentation')
    parser.add_argument('--scale-factor', type=int, metavar='S', help="size of a window of labels (default: that of the config's head)")
    parser.add_argument('--channels', type=int, help="channels of the code of a window (default: that of the config's head, or 64)")
    parser.add_argument('--windows', type=int, default=100_000, help='largest number of windows to fit to (default: 100000)')
    parser.add_argument('--out', help='file to write (default: work_dirs/dupsample_<config>_x<S>.pth)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the random choice of windows (default: 0)')
    parser.add_argument('--cfg-options', nargs='+', action=Options, metavar='KEY=VALUE', help='change the config')
    args = parser.parse_args()
    with exit_on_error():
        require('mmseg', 'tools/fit_dupsample.py')
        from mmdysample.engine.dupsample_fit import fit_matrix, label_dataset, reconstruction_miou

        config = load_config(args.config, args.cfg_options)
        head = last_head(config)
        s = args.scale_factor if args.scale_factor is not None else head.get('scale_factor')
        channels = args.channels if args.channels is not None else head.get('code_channels', 64)
        if s is None:
            raise ValueError(f'{args.config} has no DUpsampleHead that sets scale_factor: give --scale-factor')
        for name, value in (('--scale-factor', s), ('--channels', channels), ('--windows', args.windows)):
            if value < 1:
                raise ValueError(f'{name} must be a positive integer, got {value}')
        out = Path(args.out or f'work_dirs/dupsample_{Path(args.config).stem}_x{s}.pth')
        prepare_data(config, ('train', 'val'))
        train, val = (label_dataset(config, split) for split in ('train', 'val'))
        with new_file(out) as file:
            matrix = fit_matrix(train, s, channels, args.windows, args.seed)
            content = {'W': matrix, 'P': matrix.T.contiguous(), 'scale_factor': s, 'classes': list(train.metainfo['classes'])}
            torch.save(content, file)
        scores = reconstruction_miou(val, matrix, s)
    table = Table(title=f'label maps reconstructed from 1/{s} of their size: mIoU (%) on the validation set')
    for name in scores:
        table.add_column(name, justify='right')
    table.add_row(*(f'{score:.2f}' for score in scores.values()))
    Console().print(table)
    print(f'matrix: {out}')


if __name__ == '__main__':
    main()
