"""Export a model or a part of it to other runtimes, and check that it computes the same there as in PyTorch."""

import argparse
from pathlib import Path

from mmdysample.engine.errors import exit_on_error

with exit_on_error():
    from mmdysample.engine.checkpoint import TRUST_FLAG, secure_loading
    from mmdysample.engine.config import load_config
    from mmdysample.engine.files import check_out
    from mmdysample.engine.launch import set_work_dir
    from mmdysample.engine.options import Options
    from mmdysample.engine.upsampler import use_upsampler
    from mmdysample.frameworks import require


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file (default: none, export an untrained model)')
    parser.add_argument('--to', choices=['onnx', 'torch-export'], required=True, help='format: .onnx, or the .pt2 of torch.export')
    parser.add_argument(
        '--for',
        dest='target',
        choices=['any', 'onnxruntime', 'openvino', 'tensorrt'],
        default='any',
        help='runtime that an ONNX file is for (default: any, which all compute alike); with onnxruntime, upsamplers are several times as '
        'fast there, and need version 1.25',
    )
    parser.add_argument('--out', metavar='FILE', help='file to write (default: <name of the config>.onnx or .pt2 in the work directory)')
    parser.add_argument('--force', action='store_true', help='overwrite --out if it exists')
    parser.add_argument('--part', metavar='NAME', help='module to export, e.g. neck or neck.upsample_modules.0 (default: the whole model)')
    parser.add_argument(
        '--size',
        type=parse_size,
        default=(128, 192),
        metavar='HxW',
        help='size of the images to export with (default: 128x192); the file also accepts other sizes, see the output',
    )
    parser.add_argument(
        '--fixed', action='store_true', help='export for one image of --size only (default: batch, height and width are dynamic)'
    )
    parser.add_argument(
        '--without-grid-sample', action='store_true', help='sample with gathers, for runtimes whose GridSample is wrong or missing'
    )
    parser.add_argument(
        '--half', action='store_true', help='compute in float16; sampling points stay in float32 (default: everything in float32)'
    )
    parser.add_argument('--work-dir', help='as in tools/train.py')
    parser.add_argument(
        '--upsampler', metavar='NAME', help='the upsampler that the checkpoint was trained with, written as for tools/train.py'
    )
    parser.add_argument('--cfg-options', nargs='+', action=Options, metavar='KEY=VALUE', help='change the config')
    parser.add_argument(
        TRUST_FLAG, action='store_true', help='also load checkpoints that can run code; only for files from people you trust'
    )
    onnx = parser.add_argument_group('ONNX')
    onnx.add_argument(
        '--opset',
        type=int,
        choices=range(12, 21),
        metavar='12..20',
        help='version of the ONNX operators (default: 18; --for onnxruntime: 19); GridSample needs 16',
    )
    onnx.add_argument(
        '--exporter',
        choices=['tracing', 'capturing'],
        help="torch's older exporter (tracing), or its newer one (capturing), which needs opset 18 and is then the default",
    )
    args = parser.parse_args()
    with exit_on_error():
        from mmdysample.export.export import export
        from mmdysample.export.report import describe
        from mmdysample.export.runtimes import OpenVINO
        from mmdysample.export.speed import describe_speed
        from mmdysample.export.targets import make_form
        from mmdysample.pictures.loaded_model import load_model

        form = make_form(args.to, args.target, args.opset, args.exporter, args.without_grid_sample)
        secure_loading(args.trust_checkpoint)
        config = load_config(args.config, args.cfg_options)
        if config.get('default_scope') in ('mmdet', 'mmseg'):
            require(config.default_scope, args.config)
        name = Path(args.config).stem
        if args.upsampler is not None:
            name = f'{name}_{use_upsampler(config, args.upsampler, args.cfg_options)}'
            config.pop('work_dir', None)  # the saved config of a run holds that run's work directory
        set_work_dir(config, name, args.work_dir)
        out = Path(args.out or Path(config.work_dir) / f'{Path(args.config).stem}{form.suffix}')
        form.check_name(out)
        check_out(out, args.force)
        loaded = load_model(config, args.checkpoint)
        loaded.check_complete()
        said = config.model.get('backbone', {}).get('in_channels')
        channels = said if isinstance(said, int) else 3
        how = dict(part=args.part, size=args.size, fixed=args.fixed, half=args.half, channels=channels)
        exported = export(loaded.model.cpu(), form, out, **how)
        speed = describe_speed(exported, form, loaded.model, how)
    print(describe(exported, form, loaded))
    if speed:
        print(speed)
    if loaded.warning:
        print(loaded.warning)
    if args.target == 'openvino' and not OpenVINO.is_installed():
        print('warning: OpenVINO is not installed, so the file was not checked there. Run: pip install openvino')
    print(f'done: {out}')


def parse_size(text: str) -> tuple[int, int]:
    """Return the height and width of a text such as ``128x192``."""
    parts = text.split('x')
    if len(parts) != 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f'takes HxW, two positive integers, got {text}')
    return int(parts[0]), int(parts[1])


if __name__ == '__main__':
    main()
