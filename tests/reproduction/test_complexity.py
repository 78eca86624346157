import csv
import io

import pytest

from mmdysample.benchmark.environment import Environment
from mmdysample.benchmark.timing import Timing
from mmdysample.benchmark.upsamplers import Cost, Measured
from mmdysample.paper.reader import read_table
from mmdysample.reproduction import complexity
from mmdysample.reproduction.plan import Settings, plan


@pytest.fixture
def show(monkeypatch, tmp_path, capsys):
    table = read_table('complexity')
    asked = []

    def measure(names, environment):
        asked.extend(names)
        times = {'bilinear': 2.0, 'DySample': 5.0, 'CARAFE': 7.0}
        costs = {name: {'forward': Cost(Timing(ms, ms, ms, 9), 2**20)} for name, ms in times.items()}
        return [Measured(name, 8224, 10**8, costs[name]) for name in dict.fromkeys(['bilinear', *names])]

    monkeypatch.setattr(complexity, 'measure_upsamplers', measure)

    def run(form, measured, *rows):
        plans = plan(table, Settings('coco', 1, tmp_path, {}, ()), rows or ['bilinear', 'DySample', 'CARAFE'])
        complexity.show_complexity(table, plans, tmp_path / 'out', form, measured)
        return capsys.readouterr().out, asked, tmp_path / 'out'

    return run


def test_what_is_measured_stands_beside_what_is_published(show):
    out, asked, folder = show('csv', True)
    rows = {row['row']: row for row in csv.DictReader(io.StringIO(out))}
    assert asked == ['bilinear', 'DySample', 'CARAFE']
    assert [row['published, ms'] for row in rows.values()] == ['~1.6', '~6.2', '~12.6']
    assert [row['fwd / bilinear'] for row in rows.values()] == ['1.0', '2.5', '3.5']
    assert rows['DySample']["in the paper's figure"] == '~3.9'
    assert [row['published, parameters'] for row in rows.values()] == ['', '(+8.2K)', '']
    # Of some rows, they stand beside those of the whole table.
    assert {path.name for path in folder.iterdir()} == {'complexity_rows.md', 'complexity_rows.csv', 'complexity_rows.png'}
    assert (folder / 'complexity_rows.csv').read_text() == out
    assert Environment.here('cpu').sentence() in ' '.join((folder / 'complexity_rows.md').read_text().split())


def test_bilinear_is_measured_though_its_row_is_not_asked_for(show):
    rows = list(csv.DictReader(io.StringIO(show('csv', True, 'CARAFE')[0])))
    assert [(row['row'], row['fwd / bilinear']) for row in rows] == [('CARAFE', '3.5')]


def test_nothing_is_measured_or_written_in_a_dry_run(show):
    out, asked, folder = show('text', False)
    assert '~6.2' in out
    assert not asked
    assert not folder.exists()
