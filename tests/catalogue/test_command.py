import csv
import io
import itertools
import re
import sys

import pytest
import torch
from conftest import ROOT
from torch import nn

from mmdysample import DySample, build_upsampler, list_upsamplers
from mmdysample.catalogue import capabilities, torch_features
from mmdysample.catalogue.command import main
from mmdysample.catalogue.flops import SEGFORMER_STEPS, count_multiplications
from mmdysample.catalogue.published_counts import published
from mmdysample.catalogue.upsampler_tables import capability_table, parameters_table, torch_table
from mmdysample.functional import tiles
from mmdysample.terminal.tables import render


@pytest.mark.parametrize('name', ['pixel_shuffle', 'CARAFE', 'FADE', 'FADE-Lite', 'SAPA-I', 'SAPA-B', 'IndexNet', 'A2U'])
def test_multiplications_are_the_published_flops(name):
    """In SegFormer-B1 at 512x512; the rows left out here are explained where the table is printed."""
    module = build_upsampler(name, 256)
    total = sum(steps * count_multiplications(module, size, size) for size, steps in SEGFORMER_STEPS.items())
    printed = published('segformer', name, 'flops')
    assert f'{total / 1e9:.{len(printed.split(".")[1])}f}' == printed


def test_the_explained_rows_are_explained():
    """Of the table of FLOPs: the steps begin at 14,592 pixels."""
    pixels = sum(steps * size**2 for size, steps in SEGFORMER_STEPS.items())
    assert f'{4 * 9 * 256 * 256 * pixels / 1e9:.1f}' == published('segformer', 'deconv', 'flops')
    module = build_upsampler('SAPA-D', 256)
    counted = sum(steps * count_multiplications(module, size, size) for size, steps in SEGFORMER_STEPS.items())
    taps = 4 * 9 * 4 * (128 + 256) * pixels  # points x taps of a sample x channels of keys and values, at four output pixels
    assert f'{(counted + taps) / 1e9:.1f}' == published('segformer', 'SAPA-D', 'flops')


def test_multiplications_by_hand():
    """A 1x1 convolution to 32 channels at 3x5, and four taps for each of the 64 channels of 6x10 pixels."""
    assert count_multiplications(build_upsampler('DySample', 64), 3, 5, 64) == 64 * 32 * 15 + 4 * 64 * 60


EXPLAINED = {('A2U', 'faster_rcnn'), ('FRFU', 'faster_rcnn'), ('FRFU', 'panoptic_fpn'), ('pixel_shuffle', 'segformer')}


def test_parameters_in_the_models_are_the_published_ones():
    """To the printed precision, with the biases or without; the differences are explained where the table is printed."""
    pytest.importorskip('mmdet')
    pytest.importorskip('mmseg')
    rows = {row['name'].strip('`'): row for row in parameters_table()}
    assert sorted(rows) == sorted(list_upsamplers())
    weights = {'DySample': 8192, 'DySample+': 16384, 'DySample-S+': 2048, 'A2U': 9728}  # without biases and norms
    count = {'faster_rcnn': 4, 'panoptic_fpn': 3, 'segformer': 6}
    compared = 0
    for name, row in rows.items():
        for model, modules in count.items():
            printed = row[f'{model}, published']
            if not printed or (name, model) in EXPLAINED:
                continue
            number, unit = re.fullmatch(r'([\d.]+)([KM]?)', printed).groups()
            step = 10.0 ** -len(number.partition('.')[2])
            scale = {'': 1, 'K': 1e3, 'M': 1e6}[unit]
            counts = {int(row[model].replace(',', '')), modules * weights.get(name, -1)}
            # Rounded or cut.
            assert any(-0.5 * step <= c / scale - float(number) < step for c in counts), (name, model, counts, printed)
            compared += 1
    assert compared >= 28


def test_a_tick_is_what_happened(monkeypatch):
    pytest.importorskip('onnxruntime')
    assert capabilities.compiles('DySample')
    assert capabilities.exports('CARAFE')
    assert capabilities.runs('SAPA-B', 'cpu', torch.float16)
    assert not capabilities.scales('IndexNet', 3)
    assert not capabilities.runs('SAPA-B', 'nowhere', torch.float32)
    # Wrong numbers are no tick.
    monkeypatch.setattr(tiles, 'reassemble', lambda x, weight, k, s: torch.zeros(len(x), x.shape[1], s * x.shape[2], s * x.shape[3]))
    assert not capabilities.runs('CARAFE', 'cpu', torch.float32)
    assert not capabilities.exports('CARAFE')


def test_names_come_at_once(capsys, monkeypatch):
    """Without a table, nothing is built or tried."""
    monkeypatch.setattr(sys, 'argv', ['list_upsamplers.py', '--format', 'csv'])
    monkeypatch.setattr(nn.Module, '__init__', lambda self: pytest.fail('built'))
    main()
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row['name'] for row in rows] == list_upsamplers()
    guided = {row['name']: row['guided'] for row in rows}
    assert (guided['bilinear'], guided['DySample'], guided['SAPA-B']) == ('no', 'no', 'yes')


def test_rendering():
    rows = [{'name': '`a`', 'cost': '1,000'}, {'name': '`b+`', 'cost': '2'}]
    assert list(csv.reader(io.StringIO(render(rows, 'csv')))) == [['name', 'cost'], ['a', '1000'], ['b+', '2']]
    assert render(rows, 'markdown').splitlines()[2].replace(' ', '') == '|`a`|1,000|'
    assert '`' not in render(rows, 'text')


@pytest.mark.slow
def test_the_table_of_the_documentation_is_the_command_s(monkeypatch):
    """The contract of every upsampler compiles and exports it, so it is not done again here."""
    monkeypatch.setattr(capabilities, 'compiles', lambda name: True)
    monkeypatch.setattr(capabilities, 'exports', lambda name: True)
    if not capabilities.has_onnxruntime():
        pytest.skip('onnxruntime is not installed, and the table has a column for it')
    if torch.cuda.is_available():
        pytest.skip('there is a GPU here, and the table was written without one')
    assert render(capability_table(), 'markdown') in (ROOT / 'docs/upsamplers.md').read_text()


@pytest.mark.slow
def test_the_table_of_torch_is_the_command_s():
    assert render(torch_table(), 'markdown') in (ROOT / 'docs/upsamplers.md').read_text()


def test_a_feature_of_torch_that_fails_is_no(monkeypatch):
    def wrong(name):
        raise AssertionError('other numbers')

    def absent(name):
        raise ModuleNotFoundError("No module named 'torch.distributed.fsdp'")

    monkeypatch.setattr(torch_features, 'FEATURES', {'works': torch_features.copy_deeply, 'fails': wrong, 'cannot be tried': absent})
    assert torch_features.torch_features('DySample') == {'works': 'yes', 'fails': 'no', 'cannot be tried': '-'}


@pytest.mark.parametrize('feature', torch_features.FEATURES)
def test_wrong_numbers_are_no_feature_of_torch(monkeypatch, feature):
    """Each feature compares: an upsampler whose outputs differ from call to call has none of them."""
    calls = itertools.count(1)
    monkeypatch.setattr(DySample, 'upsample', lambda self, x: next(calls) * x.repeat(1, 1, 2, 2) * self.offset.weight.sum())
    with pytest.raises(AssertionError):
        torch_features.FEATURES[feature]('DySample')
