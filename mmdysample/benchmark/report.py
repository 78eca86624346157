"""Turn measurements into tables for people."""

from collections.abc import Sequence
from typing import Optional

from mmdysample.catalogue.twins import BASELINE
from mmdysample.terminal.tables import Row

from .deployed import MeasuredFile
from .environment import Environment
from .floor import FORMULA
from .formulations import FLOOR, MeasuredFormulation
from .models import MeasuredModel
from .passes import PASSES
from .published import published_ratio
from .targets import Verdict
from .timing import FLUSHED_BYTES, Timing
from .upsamplers import REFERENCE, Measured

SHORT = {'forward': 'fwd', 'forward + backward': 'fwd+bwd'}
LEFT = ('size', 'dtype', 'pass', 'name', 'exported', 'upsampler', 'form', 'runtime', 'format', 'target', 'failed')
MIB = 2**20
IN_THE_FIGURE = "in the paper's figure"

UPSAMPLERS_NOTE = """\
Forward: inference; forward + backward: in training mode, with gradients of all inputs and parameters. GFLOPs: multiply-adds of one call,
in billions."""
FIGURE_NOTE = "~: ratios of latencies read off the paper's Figure 1, measured on its authors' GPU."
MODELS_NOTE = f"""\
Inference on one image with random weights: the network and the post-processing, without reading and resizing the image. With random
weights no detection reaches the score threshold, so these times do not include mask heads. MiB: peak memory beyond the weights.
{BASELINE}: the interpolation of the stock model. "first" is the first upsampler of the same model that has a time."""

FORMULATIONS_NOTE = f"""\
Forward: inference; forward + backward: in training mode, with gradients of the map and all parameters. *: the path that DySample
takes by default. {FLOOR}: the time for the bytes that must move ({FORMULA}),
at the speed of a copy between two tensors of the size of y, which is measured in the same rounds."""

DEPLOYED_NOTE = f"""\
Files with open sizes, as tools/export.py writes them, with random weights and as many threads as the runtime chooses. Form: how bilinear
samples are exported, if there are any. / {REFERENCE}: the time divided by that of the same subject with {REFERENCE}, called in the same
rounds. Difference: the largest one from PyTorch at two sizes and three batches, relative to the largest value."""

BLOCKS_NOTE = """\
Pixels x channels that a program processes at once, BLOCKS in mmdysample/functional/kernels/launch.py. Ratios of times are geometric means
over all sizes and dtypes. gather_gradient computes the gradient of the map under deterministic algorithms; its time includes a sort."""


def upsampler_table(rows: Sequence[Measured], size: tuple[int, ...], scale_factor: int) -> list[Row]:
    """Return the table of upsamplers, with the ratios of the paper's figure if the size is that of the figure."""
    reference = next(row for row in rows if row.name == REFERENCE)
    cells = [_upsampler_row(row, reference, published_ratio(row.name, size, scale_factor)) for row in rows]
    return _without_empty(cells, (IN_THE_FIGURE, *(f'{short}, unfold / ours' for short in SHORT.values()), 'failed'))


def _upsampler_row(row: Measured, reference: Measured, published: str) -> Row:
    cells = {'name': f'`{row.name}`'}
    for label in PASSES:
        cost, base, short = row.costs.get(label), reference.costs.get(label), SHORT[label]
        cells[f'{short}, ms (quartiles)'] = milliseconds(cost.time) if cost else ''
        cells[f'{short} / {REFERENCE}'] = f'{cost.time.median / base.time.median:.1f}' if cost and base else ''
        if label == 'forward':
            cells[IN_THE_FIGURE] = published
        cells[f'{short}, MiB'] = f'{cost.memory / MIB:.1f}' if cost else ''
        cells[f'{short}, unfold / ours'] = f'{cost.unfold:.1f}' if cost and cost.unfold else ''
    cells['parameters'] = _grouped(row.parameters)
    cells['GFLOPs'] = _giga(row.multiplications)
    cells['failed'] = row.error
    return cells


def model_table(rows: Sequence[MeasuredModel]) -> list[Row]:
    """Return the table of models, each compared with the same model with the first upsampler that has a time."""
    first: dict[str, MeasuredModel] = {}
    for row in rows:
        if row.time:
            first.setdefault(row.model, row)
    return _without_empty([_model_row(row, first.get(row.model)) for row in rows], ('failed',))


def _model_row(row: MeasuredModel, first: Optional[MeasuredModel]) -> Row:
    return {
        'name': f'`{row.model}`',
        'upsampler': f'`{row.upsampler}`',
        'input': 'x'.join(map(str, row.size or ())),
        'ms (quartiles)': milliseconds(row.time) if row.time else '',
        'FPS': f'{1e3 / row.time.median:.2f}' if row.time else '',
        'time / first': f'{row.time.median / first.time.median:.2f}' if row.time and first and first.time else '',
        'MiB': f'{row.memory / MIB:.0f}' if row.memory is not None else '',
        'memory / first': f'{row.memory / first.memory:.2f}' if row.memory is not None and first and first.memory else '',
        'parameters': _grouped(row.parameters),
        'failed': row.error,
    }


def deployed_table(rows: Sequence[MeasuredFile]) -> list[Row]:
    """Return the table of exported files, each compared with the file with bilinear interpolation in the same runtime."""
    cells = [
        {
            'exported': row.subject,
            'upsampler': f'`{row.upsampler}`',
            'form': row.form,
            'runtime': row.runtime,
            'ms (quartiles)': milliseconds(row.time) if row.time else '',
            f'/ {REFERENCE}': f'{row.ratio:.2f}' if row.ratio else '',
            'difference': f'{row.difference:.1e}' if row.difference is not None else '',
            'failed': row.error,
        }
        for row in rows
    ]
    return _without_empty(cells, ('failed',))


def formulation_table(rows: Sequence[MeasuredFormulation]) -> list[Row]:
    """Return the table of formulations, each compared with bilinear interpolation and with the floor of the same pass."""
    found = {(row.size, row.dtype, row.label, row.name): row for row in rows}
    cells = []
    for row in rows:
        base, floor = (found.get((row.size, row.dtype, row.label, name)) for name in (REFERENCE, FLOOR))
        cells.append(
            {
                'size': 'x'.join(map(str, row.size)),
                'dtype': row.dtype,
                'pass': SHORT[row.label],
                'name': f'`{row.name}`',
                'default': '*' if row.default else '',
                'ms (quartiles)': milliseconds(row.time) if row.time else '',
                f'/ {REFERENCE}': _ratio(row, base),
                f'/ {FLOOR}': _ratio(row, floor),
                'MiB': f'{row.memory / MIB:.1f}' if row.memory is not None else '',
                f'MiB / {REFERENCE}': f'{row.memory / base.memory:.2f}' if row.memory is not None and base and base.memory else '',
                'failed': row.error,
            }
        )
    return _without_empty(cells, ('failed',))


def _ratio(row: MeasuredFormulation, other: Optional[MeasuredFormulation]) -> str:
    return f'{row.time.median / other.time.median:.2f}' if row.time and other and other.time else ''


def target_table(verdicts: Sequence[Verdict]) -> list[Row]:
    """Return the table of targets with the measured ratios, to three digits so that a narrow miss does not look like a hit."""
    words = {True: 'met', False: 'missed', None: 'not measured'}
    return [
        {
            'target': str(verdict.target),
            'measured': '' if verdict.ratio is None else f'{verdict.ratio:.3f} ({verdict.path})',
            'verdict': words[verdict.met],
        }
        for verdict in verdicts
    ]


def _without_empty(cells: list[Row], optional: Sequence[str]) -> list[Row]:
    """Leave out the optional columns that are empty."""
    empty = {column for column in optional if not any(row[column] for row in cells)}
    return [{column: value for column, value in row.items() if column not in empty} for row in cells]


def milliseconds(time: Timing) -> str:
    """Return median and quartiles in milliseconds, to three or four significant digits of the median."""
    digits = 3 if time.median < 1 else 2 if time.median < 10 else 1 if time.median < 1000 else 0
    return f'{time.median:.{digits}f} ({time.q1:.{digits}f}-{time.q3:.{digits}f})'


def _grouped(number: Optional[int]) -> str:
    return '' if number is None else f'{number:,}'


def _giga(number: Optional[int]) -> str:
    if number is None:
        return ''
    return f'{number / 1e9:.2f}' if number == 0 or number >= 1e7 else f'{number / 1e9:.5f}'


def explanation(environment: Environment) -> str:
    """Return a line that explains how the numbers of a table were measured."""
    lines = ['Medians (quartiles) of calls interleaved in random order. MiB: peak memory beyond that held before the call.']
    if environment.device == 'cuda':
        lines.append(
            f'Times are between CUDA events with a cold L2 cache ({FLUSHED_BYTES // MIB} MiB are overwritten before each call); '
            f'TF32 is {"on" if environment.tf32 else "off"}; cuDNN does not search for algorithms.'
        )
    else:
        lines.append('Caches hold the data that the previous call left in them.')
    return ' '.join(lines)
