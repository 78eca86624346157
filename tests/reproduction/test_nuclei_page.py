"""The tables in docs/nuclei.md are what the command prints from the lines in docs/results."""

import pytest
from conftest import ROOT
from processes import Stub

from mmdysample.reproduction import command
from mmdysample.reproduction.results import read_lines

pytestmark = pytest.mark.usefixtures('_frameworks', '_no_counting', '_no_settings')

COUNTED = ('parameters', 'flops')  # which take seconds a row


def tables(text):
    """The tables in a text of Markdown, as lists of rows by column."""
    found, rows = [], []
    for line in [*text.splitlines(), '']:
        if line.startswith('|'):
            rows.append([cell.strip() for cell in line.strip('|').split('|')])
        elif rows:
            header, _, *body = rows
            found.append([{key: cell for key, cell in zip(header, row) if key not in COUNTED} for row in body])
            rows = []
    return found


@pytest.mark.parametrize('name', command.names_of('nuclei'))
def test_the_page_has_the_table_of_the_command(name, tmp_path, capsys):
    lines = read_lines(ROOT / f'docs/results/{name}.csv')
    if not lines:
        pytest.skip(f'{name} has no results yet')
    assert command.main(ROOT, Stub(fail=['.']), [name, '--dry-run', '--format', 'markdown', '--out', str(tmp_path / 'out')]) == 0
    printed = capsys.readouterr()
    assert 'not used' not in printed.err
    page = (ROOT / 'docs/nuclei.md').read_text(encoding='utf-8')
    (table,) = tables('\n'.join(line for line in printed.out.splitlines() if not line.startswith(('env ', 'CUDA'))))
    assert {row['row'] for row in table} == {line['row'] for line in lines}
    assert table in tables(page)
