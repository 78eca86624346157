"""What the paper's Figure 1 shows, beside which times are printed: latencies, and the mIoU of SegFormer-B1 on ADE20K."""

from typing import Optional

from mmdysample.paper.reader import read_table
from mmdysample.paper.table import Cell

from .upsamplers import REFERENCE, SCALE_FACTOR, SIZE

# Published for a head with half the channels, in another framework: not to be compared with the others.
INCOMPARABLE = ('nearest',)


def published_ratio(name: str, size: tuple[int, ...], scale_factor: int) -> str:
    """How many times as long as ``bilinear`` an upsampler takes in the figure, with a tilde: its latencies were read off by eye.

    Empty where none is public, or for another size than the figure's.
    """
    table = read_table('complexity')
    latencies = {row.name: row.cell(table.main) for row in table.rows}
    cell, reference = latencies.get(name), latencies.get(REFERENCE)
    if (size, scale_factor) != (SIZE, SCALE_FACTOR) or cell is None or reference is None:
        return ''
    ratio = float(cell.value) / float(reference.value)
    return f'{"~" if "FIG" in (cell.mark, reference.mark) else ""}{ratio:.1f}'


def published_miou(name: str) -> Optional[Cell]:
    """The mIoU of SegFormer-B1 on ADE20K with an upsampler; None where none is public that can be compared with the others."""
    table = read_table('segformer')
    cells = {row.name: row.cell(table.main) for row in table.rows}
    return None if name in INCOMPARABLE else cells.get(name)
