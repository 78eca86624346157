"""Tables for people, for documents and for programs."""

import re
from collections.abc import Collection

from prettytable import MARKDOWN, PrettyTable

FORMATS = ('text', 'markdown', 'csv')

Row = dict[str, str]


def fold(rows: list[Row], width: int) -> list[list[Row]]:
    """Split a table that is wider than a terminal into tables that are not, each with the first column.

    Args:
        rows: As in :func:`render`.
        width: Of the terminal, in characters.
    """
    first, *others = rows[0]
    taken = {column: 3 + max(len(column), *(len(row[column]) for row in rows)) for column in rows[0]}
    parts = [[first]]
    for column in others:
        if len(parts[-1]) > 1 and 1 + sum(taken[other] for other in (*parts[-1], column)) > width:
            parts.append([first])
        parts[-1].append(column)
    return [[{column: row[column] for column in part} for row in rows] for part in parts]


def render(rows: list[Row], form: str, left: Collection[str] = ('name',)) -> str:
    """Lay rows out.

    Args:
        rows: By the names of the columns; quotes around a name, as in `` `name` ``, stay in Markdown alone, the commas of thousands not
            in CSV.
        form: One of ``FORMATS``.
        left: The columns that hold words.

    Returns:
        The lines.
    """
    table = PrettyTable(list(rows[0]))
    table.add_rows([[_plain(cell, form) for cell in row.values()] for row in rows])
    table.align = 'r'
    for column in left:
        table.align[column] = 'l'
    if form == 'csv':
        return table.get_csv_string(lineterminator='\n').rstrip()
    if form == 'markdown':
        table.set_style(MARKDOWN)
    return table.get_string()


def _plain(cell: str, form: str) -> str:
    """A cell as a form has it: quotes are for Markdown, and thousands are set apart for people alone."""
    if form == 'csv' and re.fullmatch(r'[+(]*\d{1,3}(,\d{3})+\)?', cell):
        cell = cell.replace(',', '')
    return cell if form == 'markdown' else cell.replace('`', '')
