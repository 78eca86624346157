"""Write the ImageNet weights of an installed package to a file that init_cfg of mmdet and mmseg can load."""

import argparse
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from mmdysample.engine.errors import exit_on_error

with exit_on_error():
    import torch

    from mmdysample.engine.files import check_out, whole_file
    from mmdysample.engine.packaged_weights import SOURCES, name_tensors, read_tensors
    from mmdysample.frameworks import require


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('name', choices=SOURCES, help='the backbone')
    parser.add_argument('--out', metavar='FILE', help='file to write (default: data/pretrained/<name>.pth)')
    parser.add_argument('--force', action='store_true', help='overwrite --out if it exists')
    args = parser.parse_args()
    with exit_on_error():
        source = SOURCES[args.name]
        tensors = read_tensors(args.name)
        out = Path(args.out or f'data/pretrained/{args.name}.pth')
        check_out(out, args.force)
        installed = [name for name in ('mmdet', 'mmseg') if find_spec(name)]
        if not installed:
            require('mmdet', 'tools/pretrained.py')
        state: dict[str, torch.Tensor] = {}
        for name in installed:  # they name the same tensors differently; a tensor under two names is saved once
            backbone = getattr(import_module(f'{name}.models.backbones'), source.model)()
            state |= name_tensors(tensors, backbone)
        meta = {'source': source.requirement, 'file': source.file, 'sha256': source.sha256, 'licence': source.licence}
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(out) as file:
            torch.save({'state_dict': state, 'meta': meta}, file)
    print(f'weights: those of {source.requirement} ({source.licence}), checksum verified, under the names of {" and ".join(installed)}')
    print(f"use: backbone=dict(type='{source.model}', init_cfg=dict(type='Pretrained', checkpoint='{out}'))")
    print(f'done: {out}')


if __name__ == '__main__':
    main()
