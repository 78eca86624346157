"""The paper's tables: what is in the files, and what is refused."""

import copy
import re

import pytest
import yaml
from conftest import ROOT

from mmdysample import build_upsampler, list_upsamplers
from mmdysample.engine.upsampler import parse_upsampler
from mmdysample.paper.parser import parse_table
from mmdysample.paper.reader import FOLDER, TABLES, read_table
from mmdysample.paper.table import MARKS
from mmdysample.upsamplers.builder import resolve

ROWS = [(table, row) for table in TABLES for row in read_table(table).rows]
TABLE = """
title: A table
about: >-
  Said of
  all of it.
metrics: [AP, error]
main: AP
less_is_better: [error]
sources:
  paper: {name: The paper, url: 'https://example.org'}
  figure: {name: Its figure}
experiments:
  R50: {coco: a.py, shapes: shapes/a.py, baseline: nearest}
notes:
  none: There is no config of it.
rows:
  - name: nearest
    experiment: R50
    upsampler: nearest
  - name: CARAFE
    experiment: null
    upsampler: CARAFE
    published:
      - {mark: C2, source: paper, parameters: +0.3M, AP: 40.0}
      - {mark: FIG, source: figure, AP: 39.0, error: 0.10}
      - {mark: ARITH, source: paper, flops: 1.5G}
    note: none
"""


def test_every_file_is_a_table():
    assert sorted(path.stem for path in FOLDER.glob('*.yaml')) == sorted(TABLES)
    assert sum(len(row.published) for _, row in ROWS) > 100


@pytest.mark.parametrize('name', TABLES)
def test_every_source_note_and_experiment_is_used_and_there(name):
    table = read_table(name)
    groups = [group for row in table.rows for group in row.published]
    assert {group.source for group in groups} == set(table.sources.values())
    assert {row.note for row in table.rows} - {None} == set(table.notes)
    assert {row.experiment for row in table.rows} - {None} == set(table.experiments.values())
    for experiment in table.experiments.values():
        own = {'shapes'} if name == 'boundary' else {'nuclei'} if name.startswith('nuclei') else {'coco', 'shapes'}
        assert set(experiment.configs) == own
        assert all((ROOT / 'configs' / path).is_file() for path in experiment.configs.values())


def test_every_upsampler_can_be_built():
    texts = {text for _, row in ROWS for text in (row.upsampler, row.experiment and row.experiment.baseline) if text}
    for text in texts:
        build_upsampler(parse_upsampler(text), 64)
    for name in ('boundary', 'nuclei_semantic', 'nuclei_coarse'):
        assert sorted(row.name for row in read_table(name).rows) == sorted(list_upsamplers())
        assert all(resolve(parse_upsampler(row.upsampler))[0]['type'] == row.name for row in read_table(name).rows)


# By hand from the public sources: a digit of each table, and where two sources differ, the one to print.
@pytest.mark.parametrize(
    ('table', 'row', 'metric', 'text'),
    [
        ('faster_rcnn', 'nearest', 'AP', '37.5'),
        ('faster_rcnn', 'DySample', 'APL', '50.2'),
        ('faster_rcnn', 'DySample-S', 'AP', None),
        ('faster_rcnn', 'DySample-S+', 'parameters', '(+8.2K)'),
        ('faster_rcnn', 'DySample+', 'AP75', '42.2'),
        ('mask_rcnn', 'DySample+', 'mask APL', '51.5'),
        ('mask_rcnn', 'nearest', 'mask APS', '16.1'),
        ('panoptic', 'DySample', 'PQst', '30.7'),
        ('panoptic', 'R101_nearest', 'parameters', '65.0M'),
        ('segformer', 'bilinear', 'bIoU', '27.80'),
        ('segformer', 'DySample-S+', 'mIoU', '~43.58'),
        ('segformer', 'DySample-S+', 'bIoU', None),
        ('segformer', 'DySample', 'flops', None),
        ('segformer', 'FADE', 'mIoU', '43.06'),
        ('segformer', 'FADE', 'flops', '+2.65G'),
        ('upernet', 'SAPA-D', 'mIoU', '42.60'),
        ('maskformer', 'DySample', 'mIoU', None),
        ('maskformer', 'DySample-S+', 'mIoU', '"53.91"'),
        ('maskformer', 'DySample-S+_Swin-L', 'mIoU', '"54.90"'),
        ('depth', 'deconv', 'SILog', '12.84'),
        ('depth', 'DySample+_in_the_paper', 'delta1', '"0.878"'),
        ('ablation', 'faster_rcnn_naive', 'AP', '37.9'),
        ('ablation', 'segformer_static_scope', 'mIoU', '"42.4"'),
        ('complexity', 'DySample', 'latency_ms', '~6.2'),
    ],
)
def test_a_published_cell(table, row, metric, text):
    cell = read_table(table).row(row).cell(metric)
    assert (cell and cell.text()) == text


def test_counts_of_one_upsampler_agree_over_the_tables():
    """Weights of a DySample with 256 channels, times the upsamplers of the model."""
    weights = {'DySample': 8192, 'DySample+': 16384, 'DySample-S': 1024, 'DySample-S+': 2048}
    for table, upsamplers in {'faster_rcnn': 4, 'mask_rcnn': 4, 'panoptic': 3, 'segformer': 6, 'complexity': 1}.items():
        for name, count in weights.items():
            cell = read_table(table).row(name).cell('parameters')
            assert abs(float(cell.value.removeprefix('+').removesuffix('K')) - upsamplers * count / 1000) < 0.1


def test_numbers_are_of_the_size_of_their_metric():
    """A slipped point or column shows here."""
    for name, row in ROWS:
        for group in row.published:
            values = {key: value for key, value in group.values.items() if isinstance(value, float)}
            if name == 'depth':
                assert 0.85 < values.get('delta1', 0.86) < values.get('delta2', 0.97) < values.get('delta3', 0.99) < 1
                assert all(0.04 < values[key] < 0.5 for key in ('AbsRel', 'RMS', 'log10', 'RMSlog', 'SqRel') if key in values)
            elif name != 'complexity':
                assert all(15 < value < 80 for value in values.values())
            if 'AP50' in values and 'AP' in values:
                assert values['APS'] < values['AP'] < values['AP75'] < values['AP50']
                assert values['APM'] < values['APL']
            for kind in ('box', 'mask'):
                if f'{kind} AP' in values and f'{kind} AP50' in values:
                    assert values[f'{kind} APS'] < values[f'{kind} AP'] < values[f'{kind} AP75'] < values[f'{kind} AP50']
            if 'PQ' in values:
                assert values['PQst'] < values['PQ'] < values['PQth'] < values['SQ']
                assert values['PQ'] < values['RQ']
            if 'mIoU' in values and 'bIoU' in values:
                assert 10 < values['mIoU'] - values['bIoU'] < 17


def test_what_is_read():
    table = parse_table('mine', TABLE)
    assert (table.title, table.about, table.main, table.less_is_better) == ('A table', 'Said of all of it.', 'AP', ('error',))
    nearest, carafe = table.rows
    assert nearest.experiment.configs == {'coco': 'a.py', 'shapes': 'shapes/a.py'}
    assert nearest.experiment.baseline == nearest.upsampler == 'nearest'
    assert (carafe.experiment, carafe.upsampler, carafe.note) == (None, 'CARAFE', 'none')
    assert nearest.cell('AP') is None
    first = carafe.cell('AP')
    assert (first.value, first.mark, first.source.url) == (40.0, 'C2', 'https://example.org')
    assert (first.text(), first.text(3), first.text(0)) == ('40.0', '40.0', '40')
    assert copy.deepcopy(carafe.cell('error')).text() == '~0.10'
    assert [carafe.cell(key).text() for key in ('error', 'parameters', 'flops')] == ['~0.10', '+0.3M', '(1.5G)']
    assert (table.digits('AP'), table.digits('error')) == (1, 2)


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('title: A table', 'headline: A table', 'lacks title and does not know headline'),
        ('mark: FIG', 'mark: MEM', "row CARAFE: the mark 'MEM' is none of C2, 1S, FIG, ARITH"),
        ('source: figure', 'source: hearsay', "no source 'hearsay'; there are paper, figure"),
        ('main: AP', 'main: PQ', "'PQ' is not among the metrics AP, error"),
        ('AP: 40.0', 'PQ: 40.0', 'does not know PQ'),
        ('AP: 40.0', 'AP: 40', 'AP must be a number with a decimal point'),
        ('AP: 40.0', "AP: '40.0'", 'AP must be a number with a decimal point'),
        ('AP: 40.0', 'AP: 4.0e+1', 'a number must be written like 37.5'),
        (', AP: 40.0}', ', AP: 40.0, AP: 41.0}', 'a key occurs twice'),
        ('+0.3M', '+0', "parameters must be a text such as '+32.7K'"),
        ('1.5G', '1.5 GMac', 'flops must be a text'),
        ('name: CARAFE', 'name: nearest', "two rows 'nearest'"),
        ('name: CARAFE', 'name: a/b', 'a name may hold only letters'),
        ('    note: none', '', 'row CARAFE has no experiment; say why in a note'),
        ('note: none', 'note: nil', "no note 'nil'; there are none"),
        ('    experiment: R50', '    experiment: R101', "no experiment 'R101'; there are R50"),
        ('    upsampler: nearest', '    upsampler: null', 'has an experiment but no upsampler'),
        ('coco: a.py, shapes: shapes/a.py, ', '', 'experiment R50 has no config'),
        ('rows:', 'rows: none\nrest:', 'does not know rest'),
        ('{name: Its figure}', '[]', 'source figure must be a mapping with name'),
        ('metrics: [AP, error]', 'metrics: AP', "metrics must be a list, got 'AP'"),
        ('metrics: [AP, error]', 'metrics: [AP, error', 'is not YAML'),
    ],
)
def test_a_mistake_in_a_file_is_one_line(old, new, message):
    assert TABLE.count(old) == 1
    with pytest.raises(ValueError, match=f'^table mine.*{re.escape(message)}') as error:
        parse_table('mine', TABLE.replace(old, new))
    assert '\n' not in str(error.value)


def test_a_name_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(ValueError, match="no table 'fcos'; there are faster_rcnn, mask_rcnn"):
        read_table('fcos')
    with pytest.raises(ValueError, match="segformer has no row 'FPN'; there are nearest, bilinear"):
        read_table('segformer').row('FPN')


def test_nothing_but_the_four_marks_is_written_down():
    """Nor in a comment: what has no public source is not there."""
    for path in FOLDER.glob('*.yaml'):
        text = path.read_text(encoding='utf-8')
        assert set(re.findall(r'\{mark: (\w+)', text)) <= set(MARKS)
        assert len(re.findall(r'\{mark: ', text)) == sum(len(row.get('published', ())) for row in yaml.safe_load(text)['rows'])
