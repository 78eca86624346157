"""The tables in docs/nuclei.md are what the command prints from the lines in docs/results."""

import csv
import re

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


@pytest.mark.parametrize(('name', 'against'), [('nuclei_coarse', 'DySample')])
def test_the_comparisons_in_the_text_are_the_command_s(name, against, tmp_path, capsys):
    """Each row that is told apart has its numbers beside it; the others are not more than the text says."""
    rows = [line['row'] for line in read_lines(ROOT / f'docs/results/{name}.csv') if line['seed'] == '0']
    arguments = [name, '--rows', *rows, '--against', against, '--dry-run', '--format', 'csv', '--out', str(tmp_path / 'out')]
    assert command.main(ROOT, Stub(fail=['.']), arguments) == 0
    printed = {row['row']: row for row in csv.DictReader(capsys.readouterr().out.splitlines()) if row['row'] != against}
    page = ' '.join((ROOT / 'docs/nuclei.md').read_text(encoding='utf-8').split())
    above = [row for row, line in printed.items() if line['mIoU, verdict'] == 'above']
    assert sorted(above) == ['DUpsample', 'FADE']
    assert sorted(row for row, line in printed.items() if line['mIoU, verdict'] == 'below') == ['bilinear', 'nearest']
    for row in (*above, 'CARAFE'):
        assert re.search(rf'{row}\b[^.]{{0,120}} {re.escape(printed[row][f"mIoU, against {against}"])}', page), row


def test_the_table_of_the_readme_is_that_of_the_command_rounded(tmp_path, capsys):
    (table,) = (one for one in tables((ROOT / 'README.md').read_text(encoding='utf-8')) if 'mIoU' in one[0] and 'upsampler' in one[0])
    names = [re.findall('`(.+?)`', row['upsampler'])[0] for row in table]
    arguments = ['nuclei_coarse', '--rows', *names, '--dry-run', '--format', 'csv', '--out', str(tmp_path / 'out')]
    assert command.main(ROOT, Stub(fail=['.']), arguments) == 0
    for row, printed in zip(table, csv.DictReader(capsys.readouterr().out.splitlines()), strict=True):
        _, mean, difference = row.values()
        assert numbers(mean) == pytest.approx(numbers(printed['mIoU, ours']), abs=0.051)
        assert numbers(difference) == pytest.approx(numbers(printed['mIoU, against baseline']), abs=0.051)


def numbers(text):
    return [float(number) for number in re.findall(r'[-+]?\d+\.\d+', text)]
