"""The tables of all registered upsamplers: what each can do, and what it adds to a model, counted and published."""

from mmdysample.terminal.progress import progress
from mmdysample.terminal.tables import Row
from mmdysample.upsamplers import build_upsampler, list_upsamplers
from mmdysample.upsamplers.builder import resolve

from .capabilities import capabilities
from .flops import CHANNELS, count_multiplications, segformer_multiplications
from .model_size import count_model, count_parameters
from .published_counts import published
from .torch_features import torch_features

# The models of the parameters table by column: the table of the paper and the config.
COUNTED = {
    'faster_rcnn': ('faster_rcnn', 'faster_rcnn_dysample.py'),
    'panoptic_fpn': ('panoptic', 'panoptic_fpn_dysample.py'),
    'segformer': ('segformer', 'segformer_b1_dysample.py'),
}


def name_table() -> list[Row]:
    """Return a row for each upsampler with its name and whether it is guided; nothing is built or run."""
    return [{'name': f'`{name}`', 'guided': _yes_or_no(resolve(name)[1])} for name in list_upsamplers()]


def capability_table() -> list[Row]:
    """Return a row for each upsampler: parameters and FLOPs at 256 channels and x2, and its capabilities, each of which is tried."""
    rows = []
    for name in progress(list_upsamplers(), 'trying each upsampler'):
        module = build_upsampler(name, CHANNELS)
        rows.append(
            {
                'name': f'`{name}`',
                'guided': _yes_or_no(module),
                'parameters': f'{count_parameters(module):,}',
                'GFLOPs, 120x120': f'{count_multiplications(module, 120, 120) / 1e9:.2f}',
                **capabilities(name),
            }
        )
    return rows


def torch_table() -> list[Row]:
    """Return a row for each upsampler: what the rest of torch does with it, each of which is tried."""
    return [{'name': f'`{name}`', **torch_features(name)} for name in progress(list_upsamplers(), 'trying each upsampler')]


def flops_table() -> list[Row]:
    """Return a row for each upsampler: GFLOPs of the six steps of SegFormer-B1 at 512x512, counted and published."""
    rows = []
    for name in list_upsamplers():
        here = f'{segformer_multiplications(name) / 1e9:.2f}'
        rows.append({'name': f'`{name}`', 'here': here, 'published': published('segformer', name, 'flops')})
    return rows


def parameters_table() -> list[Row]:
    """Return a row for each upsampler: the parameters it adds to three models with interpolation, counted and published."""
    baselines = {model: count_model(config, 'nearest') for model, (_, config) in COUNTED.items()}
    rows = []
    for name in progress(list_upsamplers(), 'building models'):
        row = {'name': f'`{name}`'}
        for model, (table, config) in COUNTED.items():
            row[model] = f'{count_model(config, name) - baselines[model]:,}'
            row[f'{model}, published'] = published(table, name, 'parameters')
        rows.append(row)
    return rows


def _yes_or_no(upsampler: object) -> str:
    return 'yes' if getattr(upsampler, 'guided', False) else 'no'
