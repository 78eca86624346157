"""The published parameters and FLOPs of an upsampler, and why some differ from the counts of this package."""

from mmdysample.paper.reader import read_table

# Rows of the paper's tables whose notes explain why the published count differs from the count of this package.
EXPLAINED: dict[str, dict[str, tuple[str, ...]]] = {
    'flops': {'segformer': ('bilinear', 'deconv', 'SAPA-D')},
    'parameters': {'faster_rcnn': ('DySample', 'A2U', 'FRFU'), 'panoptic': ('DySample-S+', 'A2U', 'FRFU'), 'segformer': ('pixel_shuffle',)},
}


def published(table: str, name: str, column: str) -> str:
    """Return the published count that an upsampler adds to a model.

    Args:
        table: One of the paper's tables.
        name: Name of the upsampler.
        column: ``'parameters'``, or ``'flops'`` (in G).

    Returns:
        The count as printed, ``'0'`` for the interpolation of the stock model, or an empty string if no count is public.
    """
    row = next((row for row in read_table(table).rows if row.name == name), None)
    cell = row.cell(column) if row else None
    if cell is None or cell.mark not in ('C2', '1S'):
        return ''
    count = cell.text()
    return count.removeprefix('+').removesuffix('G') if count.startswith('+') else '0'


def why_counts_differ(column: str) -> str:
    """Return the reasons why published counts differ from the counts of this package, one per line."""
    lines = []
    for table, names in EXPLAINED[column].items():
        notes = read_table(table).notes
        lines += [f'{table}, {name}: {notes[read_table(table).row(name).note or ""]}' for name in names]
    return '\n'.join(lines)
