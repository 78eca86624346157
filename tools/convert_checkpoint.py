"""Bring a checkpoint of mmdet 2.x, mmseg 0.x or the DySample authors into a config's model; or ours into the stock model."""

import argparse
from pathlib import Path

from mmdysample.engine.errors import exit_on_error

with exit_on_error():
    import torch

    from mmdysample.engine.checkpoint import TRUST_FLAG, check_checkpoint, secure_loading
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
    parser.add_argument('--config', required=True, help='config file of the model, with our modules in it')
    parser.add_argument(
        '--to', choices=['mmdysample', 'stock'], default='mmdysample', help="whose model OUT is for; stock: mmdet's FPN or FPN_CARAFE"
    )
    parser.add_argument('--upsampler', metavar='NAME', help='as in tools/train.py: the upsampler that the checkpoint was trained with')
    parser.add_argument('--cfg-options', nargs='+', action=Options, metavar='KEY=VALUE', help='change the config')
    parser.add_argument('--force', action='store_true', help='overwrite OUT')
    parser.add_argument(TRUST_FLAG, action='store_true', help='load checkpoints that can run code; only for files from people you trust')
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
        content, source = torch.load(args.checkpoint, map_location='cpu'), Path(args.checkpoint).name
        converted, changes = convert_checkpoint(content, build_model(config), source, args.config)
        if args.to == 'stock':
            lines = use_stock_modules(config)
            # By now the names are ours; what the stock model calls otherwise would show here.
            converted, _ = convert_checkpoint(converted, build_model(config), source, f'the stock model of {args.config}')
            print(*lines, sep='\n')
        with whole_file(out) as file:
            torch.save(converted, file)
    print(render([change.row() for change in changes], 'text', left=('change', 'what', 'why')))
    print(f'checkpoint: {out}')


if __name__ == '__main__':
    main()
