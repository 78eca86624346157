"""Render tables as text, Markdown or CSV."""

import re
from collections.abc import Collection

from prettytable import MARKDOWN, PrettyTable

FORMATS = ('text', 'markdown', 'csv')

Row = dict[str, str]


def fold(rows: list[Row], width: int) -> list[list[Row]]:
    """Split a table into tables that fit the terminal, each with the first column.

    Args:
        rows: As in :func:`render`.
        width: Width of the terminal in characters.

    Returns:
        The rows of each table.
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
    """Render rows as a table.

    Args:
        rows: Cells by column. Backquotes, as in `` `name` ``, are kept in Markdown only. Thousands separators are removed in CSV.
        form: One of ``FORMATS``.
        left: The columns that are aligned to the left.

    Returns:
        The text of the table, without a final line break.
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
    """Return a cell without the marks that a form does not use: backquotes except in Markdown, thousands separators in CSV."""
    if form == 'csv' and re.fullmatch(r'[+(]*\d{1,3}(,\d{3})+\)?', cell):
        cell = cell.replace(',', '')
    return cell if form == 'markdown' else cell.replace('`', '')
