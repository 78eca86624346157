"""Models from outside OpenMMLab, in the environment that ``make test-foreign`` makes."""

import re

import pytest
import torch
from torch import nn

from mmdysample import replace_upsample
from mmdysample.catalogue import any_model
from mmdysample.catalogue.any_model import examine_apart
from mmdysample.catalogue.foreign_example import Example
from mmdysample.catalogue.foreign_models import FOREIGN, available, distribution
from mmdysample.replacement.routing import is_routed

# Small ones of each kind; `make foreign` runs all. Name: what is replaced, what is left, parameters, the sizes
EXPECTED = {
    'RTDetrForObjectDetection': ('`model.encoder:0`, `model.encoder:1`', 3, 16448, 'stock: no', 'yes'),
    'yolo11n.yaml': ('`model.11`, `model.14`', 0, 12352, 'stock: no', 'yes'),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', EXPECTED)
def test_replaced_trained_saved_and_exported(name):
    if name not in available():
        pytest.skip(f'{" or ".join(FOREIGN[name].packages)} is not installed (make test-foreign has its own environment for it)')
    row = examine_apart(name)
    sites, left, parameters, odd, larger = EXPECTED[name]
    assert row['sites replaced'] == sites
    assert row['sites left'] == str(left)
    assert row['parameters added'] == f'{parameters:,}'
    assert row['a training step'] == 'yes'
    assert (row['161x97'], row['192x288']) == (odd, larger)
    assert row['saved and loaded'] == row['compiled'] == '0'
    assert re.fullmatch(r'\de-0\d', row['ONNX'])


def test_a_missing_library_is_no_row():
    assert distribution(('no-such-distribution',)) == ''


class Doubled(nn.Module):
    """A model whose last map has its classes."""

    def __init__(self):
        super().__init__()
        self.up = nn.Sequential(nn.Conv2d(3, 8, 2, stride=2), nn.Upsample(scale_factor=2), nn.Conv2d(8, 4, 1))
        self.head = nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2))

    def forward(self, image):
        return self.head(self.up(image))


@pytest.mark.parametrize(('has_features', 'replaced'), [(False, ['up.1']), (True, ['up.1', 'head.1'])])
def test_class_maps_are_excluded_unless_the_outputs_are_features(has_features, replaced):
    example = Example(Doubled(), has_features=has_features)
    report = any_model._replace(example, example.at(64, 64))
    assert [site.name for site in report.replaced] == replaced


def test_a_size_is_compared_with_stock():
    example = Example(Doubled())
    assert any_model._at_size(example, (64, 64), [torch.Size((2, 4, 64, 64))]) == 'yes'
    assert any_model._at_size(example, (64, 64), [torch.Size((2, 4, 63, 64))]) == 'no: other shapes than stock'
    assert any_model._at_size(example, (64, 64), 'no: ValueError: 64') == 'stock: no'


def test_a_failure_of_stock_is_told_apart():
    def fails(model, inputs):
        if model.training or any(map(is_routed, model.modules())):
            raise ValueError('no such operator')
        return '0'

    model = Doubled().eval()
    replace_upsample(model, 'DySample', torch.randn(1, 3, 64, 64), include=['up.1'])
    assert any_model._or_stock(fails, model, ()) == 'no: ValueError: no such operator'
    assert any_model._or_stock(fails, model.train(), ()) == 'stock: no'


def test_a_difference_is_relative_and_never_hides_a_nan():
    one = torch.ones(3)
    assert any_model._difference([100 * one], [100 * one]) == '0'
    assert any_model._difference([one * 100.01], [one * 100]) == '1e-04'
    assert any_model._difference([one * 2], [one]) == 'no: differs by 1e+00'
    assert any_model._difference([one * float('nan')], [one]).startswith('no')
