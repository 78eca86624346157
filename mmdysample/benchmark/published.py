"""The published numbers that stand beside the measurements: latencies from the paper's Figure 1, and mIoU of SegFormer-B1 on ADE20K."""

from typing import Optional

from mmdysample.paper.reader import read_table
from mmdysample.paper.table import Cell

from .upsamplers import REFERENCE, SCALE_FACTOR, SIZE

# Its mIoU was published for a head with half the channels in another framework, so it is not comparable.
INCOMPARABLE = ('nearest',)


def published_ratio(name: str, size: tuple[int, ...], scale_factor: int) -> str:
    """Return the latency of an upsampler in the figure divided by that of ``bilinear``, such as ``'~3.9'``.

    The tilde marks values that were read off the figure. The text is empty if no latency is public, or for another size than the figure's.
    """
    table = read_table('complexity')
    latencies = {row.name: row.cell(table.main) for row in table.rows}
    cell, reference = latencies.get(name), latencies.get(REFERENCE)
    if (size, scale_factor) != (SIZE, SCALE_FACTOR) or cell is None or reference is None:
        return ''
    ratio = float(cell.value) / float(reference.value)
    return f'{"~" if "FIG" in (cell.mark, reference.mark) else ""}{ratio:.1f}'


def published_miou(name: str) -> Optional[Cell]:
    """Return the published mIoU of SegFormer-B1 on ADE20K with an upsampler; None if no comparable value is public."""
    table = read_table('segformer')
    cells = {row.name: row.cell(table.main) for row in table.rows}
    return None if name in INCOMPARABLE else cells.get(name)
