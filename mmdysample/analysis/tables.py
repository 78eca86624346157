"""Tables for people, for documents and for programs."""

from collections.abc import Collection

from prettytable import MARKDOWN, PrettyTable

FORMATS = ('text', 'markdown', 'csv')

Row = dict[str, str]


def render(rows: list[Row], form: str, left: Collection[str] = ('name',)) -> str:
    """Lay rows out.

    Args:
        rows: By the names of the columns; quotes around a name, as in `` `name` ``, stay in Markdown alone.
        form: One of ``FORMATS``.
        left: The columns that hold words.

    Returns:
        The lines.
    """
    table = PrettyTable(list(rows[0]))
    plain = (lambda cell: cell) if form == 'markdown' else (lambda cell: cell.replace('`', ''))
    table.add_rows([[plain(cell) for cell in row.values()] for row in rows])
    table.align = 'r'
    for column in left:
        table.align[column] = 'l'
    if form == 'csv':
        return table.get_csv_string(lineterminator='\n').rstrip()
    if form == 'markdown':
        table.set_style(MARKDOWN)
    return table.get_string()
