"""Tables of every registered upsampler: what it can do, and what it adds to the models of the field's tables."""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmdysample.engine.errors import exit_on_error
from mmdysample.frameworks import require
from mmdysample.upsamplers import build_upsampler, list_upsamplers
from mmdysample.upsamplers.builder import UpsampleConfig

from .capabilities import capabilities
from .flops import count_multiplications
from .progress import progress
from .published import ADDED, WHY_FLOPS_DIFFER, WHY_PARAMETERS_DIFFER
from .tables import FORMATS, Row, render

CHANNELS = 256
# Low-resolution sizes of the six steps of SegFormer-B1 at 512x512, and how many steps start at each.
SEGFORMER_STEPS = {16: 1, 32: 2, 64: 3}


def count_parameters(module: nn.Module) -> int:
    """The number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def capability_table() -> list[Row]:
    """What each upsampler is and can do, at 256 channels and x2 where it matters."""
    rows = []
    for name in progress(list_upsamplers(), 'trying each upsampler'):
        module = build_upsampler(name, CHANNELS)
        rows.append(
            {
                'name': f'`{name}`',
                'guided': 'yes' if getattr(module, 'guided', False) else 'no',
                'parameters': f'{count_parameters(module):,}',
                'GFLOPs, 120x120': f'{count_multiplications(module, 120, 120) / 1e9:.2f}',
                **capabilities(name),
            }
        )
    return rows


def segformer_multiplications(cfg: UpsampleConfig) -> int:
    """Multiplications of the six steps of SegFormer-B1 at 512x512, of 256 channels, by an upsampler."""
    return sum(steps * count_multiplications(build_upsampler(cfg, CHANNELS), size, size) for size, steps in SEGFORMER_STEPS.items())


def flops_table() -> list[Row]:
    """Multiplications of the six steps of SegFormer-B1 at 512x512 in G, counted and published."""
    rows = []
    for name in list_upsamplers():
        published = ADDED[name].segformer_gflops if name in ADDED else ''
        rows.append({'name': f'`{name}`', 'here': f'{segformer_multiplications(name) / 1e9:.2f}', 'published': published})
    return rows


def parameters_table() -> list[Row]:
    """Parameters that each upsampler adds to three models in place of interpolation, counted and published."""
    bases = {'faster_rcnn': 'faster_rcnn_dysample.py', 'panoptic_fpn': 'faster_rcnn_dysample.py', 'segformer': 'segformer_b1_dysample.py'}
    for framework in ('mmdet', 'mmseg'):
        require(framework, 'the table of parameters')
    baselines = {model: _count_model(config, model, 'nearest') for model, config in bases.items()}
    rows = []
    for name in progress(list_upsamplers(), 'building models'):
        row = {'name': f'`{name}`'}
        for model, config in bases.items():
            row[model] = f'{_count_model(config, model, name) - baselines[model]:,}'
            row[f'{model}, published'] = getattr(ADDED[name], model) if name in ADDED else ''
        rows.append(row)
    return rows


def _count_model(config: str, model: str, name: str) -> int:
    """Parameters of a model of the tables with an upsampler; the panoptic one's necks are plain FPNs, with three."""
    cfg = Config.fromfile(str(configs_folder() / config))
    place = cfg.model.decode_head if model == 'segformer' else cfg.model.neck
    place.upsample_cfg = dict(type=name)
    if model == 'panoptic_fpn':
        place.fuse_extra_levels = False
    # On the meta device there is nothing to initialise; the transformer's backbone reads numbers while it is built.
    with torch.device('cpu' if model == 'segformer' else 'meta'), DefaultScope.overwrite_default_scope(cfg.default_scope):
        return count_parameters(MODELS.build(cfg.model))


def configs_folder() -> Path:
    """The folder of the configs: beside the package in a checkout, within it where it is installed."""
    package = Path(__file__).parents[1]
    beside = package.parent / 'configs'
    return beside if beside.is_dir() else package / '.mim/configs'


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'table',
        nargs='?',
        default='capabilities',
        choices=['capabilities', 'flops', 'parameters'],
        help='what each can do (default); FLOPs in SegFormer-B1, or parameters in three models, beside the published ones',
    )
    parser.add_argument('--format', default='text', choices=FORMATS)
    args = parser.parse_args()
    tables: dict[str, Callable[[], list[Row]]] = {
        'capabilities': capability_table,
        'flops': flops_table,
        'parameters': parameters_table,
    }
    notes = {'flops': WHY_FLOPS_DIFFER, 'parameters': WHY_PARAMETERS_DIFFER}
    with exit_on_error():
        print(render(tables[args.table](), args.format))
    if args.format != 'csv' and args.table in notes:
        print(notes[args.table])


if __name__ == '__main__':
    main()
