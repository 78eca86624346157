"""Write a table with the published results beside the measured ones."""

import shutil
import textwrap
from collections.abc import Sequence
from typing import Optional

from mmdysample.catalogue.model_flops import count_rest, count_upsamplers
from mmdysample.catalogue.model_size import count_model, read_config
from mmdysample.paper.table import COSTS, Cell, Table
from mmdysample.terminal.progress import progress
from mmdysample.terminal.tables import Row as Line
from mmdysample.terminal.tables import fold, render

from .differences import Difference, difference
from .measured import KEYS, Measured, are_times_comparable, measured, origins, seconds_per_step
from .plan import Planned, all_trainings
from .training import Training

LEFT = ('row', 'note', 'verdict')
ORIGINS = {'device': 'devices', 'threads': 'numbers of threads', 'versions': 'versions', 'revision': 'revisions of mmdysample'}
INTERVALS = (
    'Against {key}: the mean difference from {other} over the seeds of both, and its 95 % interval by '
    "Student's t over seeds, with the variance between images where their counts are known (bootstrap). A row is above or below "
    '{other} only where the interval excludes zero. Each interval is for one comparison: of 20 rows that equal {other}, one would '
    'be called different.'
)


def lines(table: Table, plans: Sequence[Planned], data: str) -> list[Line]:
    """Return the table as CSV holds it, with a column for each published number, each measured one and their difference.

    Args:
        table: The table.
        plans: The rows.
        data: One of ``DATA``. Except with ``'coco'``, the published columns are empty, because their numbers are from other data, and there
            is the difference of each row from the row that it is compared with, over the seeds of both.
    """
    result = []
    published = data == 'coco'
    other = opponent(plans) or 'baseline'
    timed = are_times_comparable(all_trainings(plans))
    for planned in progress(plans, 'counting parameters and FLOPs'):
        row = planned.row
        line = {'row': row.name}
        for metric in table.metrics:
            ours, cell = measured(metric, planned.trainings), row.cell(metric) if published else None
            digits = max(KEYS[metric].digits, table.digits(metric)) if metric in KEYS else table.digits(metric)
            line[f'{metric}, published'] = cell.text() if cell else ''
            line[f'{metric}, ours'] = ours.text(digits) if ours else ''
            line[f'{metric}, difference'] = _difference(cell, ours, digits)
            if not published:
                found = against_baseline(metric, planned)
                line[f'{metric}, against {other}'] = found.text(digits) if found else ''
                line[f'{metric}, verdict'] = found.verdict if found else ''
        line |= _costs(planned, _image_of_shapes(planned) if data == 'shapes' else table.image)
        line |= {f'{kind}, published': '' for kind in COSTS if not published}
        step = seconds_per_step(planned.trainings) if timed else None
        line['ms a step'] = f'{1000 * step.mean:.0f}' if step else ''
        line['seeds'] = str(sum(training.metrics is not None for training in planned.trainings))
        line['note'] = planned.missing
        result.append(line)
    return result


def against_baseline(metric: str, planned: Planned) -> Optional[Difference]:
    """Return the difference of a row from the row that it is compared with; None without that row or with one seed."""
    if planned.against is None or metric not in KEYS or len(planned.trainings) < 2:
        return None
    return difference(metric, planned.trainings, planned.against.trainings)


def opponent(plans: Sequence[Planned]) -> Optional[str]:
    """Return the name of the row that all others are compared with; None if that is the stock interpolation."""
    return next((one.against.row.name for one in plans if one.against and not one.against.is_stock), None)


def _difference(cell: Optional[Cell], ours: Optional[Measured], digits: int) -> str:
    return f'{ours.mean - float(cell.value):+.{digits}f}' if cell and ours else ''


def _image_of_shapes(planned: Planned) -> Optional[tuple[int, int]]:
    size = read_config(planned.config).shapes.size if planned.config else None
    return (size, size) if size else None


def _costs(planned: Planned, image: Optional[tuple[int, int]]) -> Line:
    """Return parameters and FLOPs: of the whole model for its stock interpolation, otherwise those added to it."""
    row = planned.row
    published = {kind: row.text(kind) for kind in COSTS}
    ours = {'parameters': '', 'flops': ''}
    if planned.config and row.experiment and row.upsampler:
        # Count as published: the whole model, or the part added to the model with the stock interpolation.
        whole = row.upsampler == row.experiment.baseline or (published['parameters'] and '+' not in published['parameters'])
        count, base = (count_model(planned.config, name) for name in (row.upsampler, row.experiment.baseline))
        ours['parameters'] = f'{count:,}' if whole else f'+{count - base:,}'
        if image:
            added = count_upsamplers(planned.config, row.upsampler, *image)
            total = count_rest(planned.config, *image) + added
            ours['flops'] = _flops(total) if whole else f'+{_flops(added)}'
    return {f'{kind}, {whose}': text[kind] for kind in ours for whose, text in (('published', published), ('ours', ours))}


def _flops(count: int) -> str:
    return f'{count / 1e9:.2f}G' if count >= 1e8 else f'{count / 1e6:.2f}M'  # in G, the small models of Shapes would print as 0.00G


def compact(table: Table, full: Sequence[Line], data: str) -> list[Line]:
    """Return the table as people read it: a column per metric, each cell with the published value, the measured one and the difference."""
    rows = []
    for line in _filled(full, data):
        row = {'row': line['row']}
        for metric in table.metrics:
            row[metric] = _one_cell(data, *(line[f'{metric}, {part}'] for part in ('published', 'ours', 'difference')))
            if metric == table.main and data != 'coco':
                against = next(key for key in line if key.startswith(f'{metric}, against '))
                row[against] = line[against]
                row['verdict'] = line[f'{metric}, verdict']
        for kind in ('parameters', 'flops'):
            row[kind] = _one_cell(data, line[f'{kind}, published'], line[f'{kind}, ours'])
        row['ms a step'] = line['ms a step']
        rows.append(row)
    kept = [key for key in rows[0] if key == 'row' or any(row[key] not in ('', '-') for row in rows)]
    return [{key: row[key] for key in kept} for row in rows]


def _filled(full: Sequence[Line], data: str) -> Sequence[Line]:
    """Return the rows that were trained; all rows if none was, or if they have published numbers."""
    some = [line for line in full if line['seeds'] != '0']
    return some if some and data != 'coco' else full


def _one_cell(data: str, published: str, ours: str, difference: str = '') -> str:
    if data != 'coco' or not (published or ours):
        return ours or '-'
    return ' / '.join((published or '-', ours or '-')) + (f' ({difference})' if difference else '')


def notes(table: Table, plans: Sequence[Planned], data: str) -> list[str]:
    """Return the notes below the table: its conventions, the format of its cells, why counts differ, and why rows lack a number."""
    about = [table.miniature] if data == 'shapes' and table.miniature else []
    about += [table.about] if data != 'shapes' or not table.miniature else []
    if data == 'coco':
        about.append(
            'Cells: published / ours (difference); "-" is no value. ~ was read off a figure; (...) was computed from public code; "..." is '
            'quoted in a public note on the paper.'
        )
    about.append(
        'Parameters and FLOPs (multiply-adds) are counted in the model: in the whole model, or (+) beyond the stock interpolation.'
    )
    # Count the trainings with a value: a detector that finds nothing is complete, but has no value for the mean.
    seeds_of = {
        one.row.name: max(found.count if (found := measured(metric, one.trainings)) else 0 for metric in table.metrics) for one in plans
    }
    seeds = {one.row.name: seeds_of[one.row.name] for one in plans if len(one.trainings) > 1 and seeds_of[one.row.name]}
    most = max(seeds.values(), default=0)
    if most > 1:
        fewer = [f'{name} {count}' for name, count in seeds.items() if count < most]
        about.append(f'Mean ± standard deviation of {most} seeds{"; of fewer: " if fewer else ""}{", ".join(fewer)}.')
    if data != 'coco' and any(against_baseline(table.main, one) for one in plans):
        other = opponent(plans)
        about.append(INTERVALS.format(key=other or 'baseline', other=other or 'the stock interpolation'))
    about += _origin_notes(all_trainings(plans))
    about += [f'{planned.row.name}: {planned.missing}.' for planned in plans if planned.missing and not planned.row.note]
    if data != 'coco':
        possible = [one for one in plans if not one.missing]
        empty = [one.row.name for one in possible if all(training.metrics is None for training in one.trainings)]
        about += [f'Not trained: {", ".join(empty)}.'] if 0 < len(empty) < len(possible) else []
    for key, note in table.notes.items():
        # On Shapes there is no published number to explain.
        named = [
            planned.row.name
            for planned in plans
            if planned.row.note == key and (planned.missing or data != 'shapes' or not table.miniature)
        ]
        about += [f'{", ".join(named)}: {note}'] if named else []
    return about


def _origin_notes(trainings: Sequence[Training]) -> list[str]:
    """Return notes on what the kept results do not have in common."""
    known = origins(trainings)
    mixed = [f'{ORIGINS[name]}: {", ".join(values)}' for name, values in known.items() if len(values) > 1]
    untimed = 'The times of a step are left out, because they are of different devices or numbers of threads.'
    told = [f'The rows are of different {"; ".join(mixed)}.'] if mixed else []
    return told if are_times_comparable(trainings) else [*told, untimed]


def text(table: Table, full: Sequence[Line], plans: Sequence[Planned], data: str, form: str) -> str:
    """Return the table in one of ``terminal.tables.FORMATS``, with its title and notes unless that is CSV."""
    if form == 'csv':
        return render(list(full), 'csv')
    on = ': its miniature on Shapes' if data == 'shapes' and 'Shapes' not in table.title else ''
    title = f'## {table.title}{on}' if form == 'markdown' else f'{table.title}{on}'
    rows, below = compact(table, full, data), notes(table, plans, data)
    if form == 'markdown':
        return '\n\n'.join((title, render(rows, form, LEFT), *below))
    width = shutil.get_terminal_size((140, 24)).columns
    parts = '\n'.join(render(part, form, LEFT) for part in fold(rows, width))
    lines = (line for note in below for line in textwrap.wrap(note, min(width, 140), break_long_words=False, break_on_hyphens=False))
    return '\n\n'.join((title, parts, '\n'.join(lines)))
