"""Measure the table of costs, which needs no training: the times of the paper's figure beside the times on this machine."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import torch

from mmdysample.benchmark.environment import Environment
from mmdysample.benchmark.figure import draw_figure, figure_points
from mmdysample.benchmark.published import published_miou
from mmdysample.benchmark.report import FIGURE_NOTE, UPSAMPLERS_NOTE, explanation, upsampler_table
from mmdysample.benchmark.upsamplers import SCALE_FACTOR, SIZE, measure_upsamplers
from mmdysample.paper.table import Table
from mmdysample.terminal.tables import Row as Line
from mmdysample.terminal.tables import render

from .plan import Planned

LEFT = ('row', 'failed')


def show_complexity(table: Table, plans: Sequence[Planned], out: Path, form: str, measure: bool) -> None:
    """Measure the upsamplers of a table, print it, and save it as Markdown, CSV and PNG.

    A selection of rows is saved under a name of its own, so that it does not overwrite the whole table.

    Args:
        table: The table.
        plans: The rows.
        out: The folder of all results.
        form: One of ``terminal.tables.FORMATS``.
        measure: False to print only the published values.
    """
    published: dict[str, Line] = {
        one.row.upsampler: {
            'row': one.row.name,
            'published, ms': one.row.text(table.main),
            'published, parameters': one.row.text('parameters'),
        }
        for one in plans
        if one.row.upsampler
    }
    if not measure:
        print(render(list(published.values()), form, LEFT))
        return
    environment = Environment.here('cuda' if torch.cuda.is_available() else 'cpu')
    measured = measure_upsamplers(list(published), environment=environment)
    cells = upsampler_table(measured, SIZE, SCALE_FACTOR)
    # bilinear is always measured, as the reference of the ratios; drop it if its row was not selected.
    shown = [(published[row.name], cell) for row, cell in zip(measured, cells) if row.name in published]
    lines = [{**line, **{key: value for key, value in cell.items() if key != 'name'}} for line, cell in shown]
    notes = f'{environment.sentence()} {explanation(environment)} {" ".join(UPSAMPLERS_NOTE.split())} {FIGURE_NOTE}\n{table.about}'
    below = '\n'.join(line for text in notes.splitlines() for line in textwrap.wrap(text, 140))
    texts = {kind: f'{table.title}\n\n{render(lines, kind, LEFT)}\n\n{below}' for kind in ('text', 'markdown')}
    texts['csv'] = render(lines, 'csv')
    out.mkdir(parents=True, exist_ok=True)
    stem = table.name if len(plans) == len(table.rows) else f'{table.name}_rows'
    (out / f'{stem}.md').write_text(f'## {texts["markdown"]}\n', encoding='utf-8')
    (out / f'{stem}.csv').write_text(f'{texts["csv"]}\n', encoding='utf-8')
    points = figure_points(measured, published_miou)
    if points:
        draw_figure(points, out / f'{stem}.png', f'x{SCALE_FACTOR} upsampling of {"x".join(map(str, SIZE))}', environment.sentence())
    print(texts[form])
