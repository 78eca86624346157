"""Convert a checkpoint of mmdet 2.x, mmseg 0.x or the DySample authors to the model of a config, or one of ours to the stock model."""

import argparse
from pathlib import Path

from mmdysample.engine.errors import exit_on_error

with exit_on_error():
    import torch

    from mmdysample.engine.checkpoint import TRUST_FLAG, check_checkpoint, read_checkpoint, secure_loading
    from mmdysample.engine.config import load_config
    from mmdysample.engine.conversion import check_output, convert_checkpoint
    from mmdysample.engine.files import whole_file
    from mmdysample.engine.model import build_model
    from mmdysample.engine.options import Options
    from mmdysample.engine.stock import use_stock_modules
    from mmdysample.engine.upsampler import use_upsampler
    from mmdysample.frameworks import require
    from mmdysample.terminal.tables import render


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', metavar='IN', help='checkpoint file')
    parser.add_argument('out', metavar='OUT', help='file to write')
    parser.add_argument('--config', required=True, help='config file of the model, with modules of mmdysample')
    parser.add_argument(
        '--to',
        choices=['mmdysample', 'stock'],
        default='mmdysample',
        help='the model that OUT is for: that of the config, or stock: the same with the modules of mmdet and mmseg',
    )
    parser.add_argument(
        '--upsampler', metavar='NAME', help='the upsampler that the checkpoint was trained with, written as for tools/train.py'
    )
    parser.add_argument('--cfg-options', nargs='+', action=Options, metavar='KEY=VALUE', help='change the config')
    parser.add_argument('--force', action='store_true', help='overwrite OUT if it exists')
    parser.add_argument(
        TRUST_FLAG, action='store_true', help='also load checkpoints that can run code; only for files from people you trust'
    )
    args = parser.parse_args()
    with exit_on_error():
        secure_loading(args.trust_checkpoint)
        out = Path(args.out)
        check_output(args.checkpoint, out, args.force)
        check_checkpoint(args.checkpoint)
        config = load_config(args.config, args.cfg_options)
        if config.get('default_scope') in ('mmdet', 'mmseg'):
            require(config.default_scope, args.config)
        if args.upsampler is not None:
            use_upsampler(config, args.upsampler, args.cfg_options)
        content, source = read_checkpoint(args.checkpoint), Path(args.checkpoint).name
        converted, changes = convert_checkpoint(content, build_model(config), source, args.config)
        if args.to == 'stock':
            lines = use_stock_modules(config)
            # The names are those of our model now. This raises an error if the stock model has other names.
            converted, _ = convert_checkpoint(converted, build_model(config), source, f'the stock model of {args.config}')
            print(*lines, sep='\n')
        with whole_file(out) as file:
            torch.save(converted, file)
    print(render([change.row() for change in changes], 'text', left=('change', 'what', 'why')))
    print(f'checkpoint: {out}')


if __name__ == '__main__':
    main()
