"""Write results to files named after the benchmark and the machine. Nothing is overwritten: the files of a second run end in ``_2``."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import BinaryIO, Union

from mmdysample.engine.files import new_file

from .blocks import MeasuredBlock
from .deployed import MeasuredFile
from .environment import Environment
from .formulations import MeasuredFormulation
from .models import MeasuredModel
from .passes import PASSES
from .timing import Timing
from .upsamplers import Measured

Value = Union[str, int, float, None]

OUT = 'results/benchmark'
GPU_OUT = 'docs/benchmark'  # committed with the documentation, which links to it
PICTURE = '.png'


@contextmanager
def new_results(folder: Path, name: str) -> Iterator[tuple[BinaryIO, Path]]:
    """Open a CSV file that does not exist yet before the work that fills it; remove it if the work fails.

    Args:
        folder: The folder of the file; it is created if needed.
        name: Name of the file without a suffix.

    Yields:
        The file and its path. No picture has the same name, so that both files of a run can share it.

    Raises:
        ValueError: The folder is a file.
        OSError: The file cannot be written.
    """
    if folder.is_file():
        raise ValueError(f'--out takes a folder, got the file {folder}')
    names = (name if i == 1 else f'{name}_{i}' for i in count(1))
    free = next(free for free in names if not any((folder / f'{free}{ending}').exists() for ending in ('.csv', PICTURE)))
    path = folder / f'{free}.csv'
    with new_file(path) as file:
        yield file, path


def to_csv(rows: Sequence[Mapping[str, Value]], environment: Environment) -> str:
    """Return the rows as CSV, each with the columns of the environment."""
    text = io.StringIO()
    beside = asdict(environment)
    writer = csv.DictWriter(text, [*rows[0], *beside], lineterminator='\n')
    writer.writeheader()
    writer.writerows({**row, **beside} for row in rows)
    return text.getvalue()


def timing_columns(time: Union[Timing, None], prefix: str = '') -> dict[str, Value]:
    """Return the columns of a timing, in milliseconds; None in each if there is no timing."""
    columns = ('ms_q1', 'ms_median', 'ms_q3', 'calls')
    values = (time.q1, time.median, time.q3, time.calls) if time else (None,) * 4
    return {f'{prefix}{column}': value for column, value in zip(columns, values)}


def upsampler_columns(measured: Measured) -> dict[str, Value]:
    """Return the columns of an upsampler."""
    row: dict[str, Value] = {
        'name': measured.name,
        'parameters': measured.parameters,
        'multiplications': measured.multiplications,
    }
    for label in PASSES:
        cost, prefix = measured.costs.get(label), _prefix(label)
        row |= timing_columns(cost.time if cost else None, prefix)
        row |= {f'{prefix}memory_bytes': cost.memory if cost else None, f'{prefix}unfold_ratio': cost.unfold if cost else None}
    return {**row, 'error': measured.error}


def model_columns(measured: MeasuredModel) -> dict[str, Value]:
    """Return the columns of a model with an upsampler."""
    height, width = measured.size or (None, None)
    return {
        'model': measured.model,
        'upsampler': measured.upsampler,
        'height': height,
        'width': width,
        'parameters': measured.parameters,
        **timing_columns(measured.time),
        'memory_bytes': measured.memory,
        'error': measured.error,
    }


def formulation_columns(measured: MeasuredFormulation) -> dict[str, Value]:
    """Return the columns of a formulation in a pass."""
    return {
        'size': 'x'.join(map(str, measured.size)),
        'pass': measured.label,
        'name': measured.name,
        **timing_columns(measured.time),
        'memory_bytes': measured.memory,
        'default': measured.default,
        'error': measured.error,
    }


def file_columns(measured: MeasuredFile) -> dict[str, Value]:
    """Return the columns of an exported file in a runtime."""
    return {
        'exported': measured.subject,
        'upsampler': measured.upsampler,
        'form': measured.form,
        'runtime': measured.runtime,
        **timing_columns(measured.time),
        'ratio': measured.ratio,
        'difference': measured.difference,
        'error': measured.error,
    }


def block_columns(measured: MeasuredBlock) -> dict[str, Value]:
    """Return the columns of a block size of a kernel."""
    pixels, channels = measured.block
    return {
        'name': measured.kernel,
        'format': measured.format,
        'size': 'x'.join(map(str, measured.size)),
        'pixels': pixels,
        'channels': channels,
        'in_use': measured.in_use,
        **timing_columns(measured.time),
        'error': measured.error,
    }


def _prefix(label: str) -> str:
    return label.replace(' + ', '_') + '_'
