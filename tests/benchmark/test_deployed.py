"""What is measured of exported files."""

import csv
from collections import Counter

import pytest
from conftest import ROOT
from fake_clock import FakeClock
from mmengine.config import Config

pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')
from mmdysample.benchmark import command, deployed
from mmdysample.benchmark.deployed import measure_models, measure_modules
from mmdysample.export.runtimes import OnnxRuntime

FORMS = {'GridSample', 'gathers', 'DeformConv'}


def silent(items, label):
    return items


@pytest.fixture(autouse=True)
def _onnxruntime_alone(monkeypatch):
    """Whose files are not opened twice."""
    monkeypatch.setattr(deployed, 'ONNX_RUNTIMES', (OnnxRuntime,))


def test_each_form_beside_bilinear_interpolation():
    rows = measure_modules(['DySample', 'SAPA-I'], (2, 32, 6, 5), rounds=3, seconds=0, clock=FakeClock(), show=silent)
    assert [row.error for row in rows] == [''] * 5
    assert {(row.upsampler, row.form) for row in rows} == {('bilinear', ''), *(('DySample', form) for form in FORMS), ('SAPA-I', '')}
    assert {row.subject for row in rows} == {'x2 of 2x32x6x5'}
    assert max(row.difference for row in rows) < 1e-5
    by_form = {row.form: row for row in rows if row.upsampler != 'SAPA-I'}
    assert by_form[''].ratio == 1
    assert by_form['DeformConv'].time.calls == 3
    assert by_form['GridSample'].ratio != 1  # no two calls of this clock take the same time


def test_what_cannot_be_exported_says_so(monkeypatch):
    def fail(model, form, *_, **__):
        raise ValueError(f'no {form.sampling}')

    monkeypatch.setattr(deployed, 'export', fail)
    rows = measure_modules(['DySample'], (1, 32, 6, 5), rounds=1, seconds=0, clock=FakeClock(), show=silent)
    assert Counter((row.upsampler, row.error) for row in rows) == Counter(
        (name, f'no {form}') for name in ('bilinear', 'DySample') for form in FORMS
    )
    assert [row.time for row in rows] == [None] * 6


@pytest.mark.slow
def test_whole_models(monkeypatch):
    pytest.importorskip('mmseg')
    monkeypatch.setattr(deployed, 'FORMS', {'GridSample': {}})
    path = ROOT / 'configs/shapes/boundary.py'
    config = Config.fromfile(path)
    rows = measure_models({path: config}, ['DySample'], (64, 96), rounds=1, seconds=0, clock=FakeClock(), show=silent)
    assert [(row.upsampler, row.form) for row in rows] == [('bilinear', ''), ('DySample', 'GridSample')]
    assert {row.subject for row in rows} == {'boundary at 64x96'}
    assert max(row.difference for row in rows) < 1e-5


def test_the_table_and_the_csv(capfd, tmp_path):
    small = ['--upsamplers', 'DySample', '--size', '1x32x6x5', '--rounds', '1', '--seconds', '0', '--only', '--out', str(tmp_path)]
    assert command.main(ROOT, ['deployed', *small]) == 0
    told = capfd.readouterr().out
    assert all(word in told for word in ('DeformConv', 'onnxruntime', '/ bilinear', 'difference'))
    (path,) = tmp_path.iterdir()
    rows = list(csv.DictReader(path.open()))
    assert [row['form'] for row in rows] == ['', 'GridSample', 'gathers', 'DeformConv']
    assert float(rows[0]['ratio']) == 1
