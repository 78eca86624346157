"""Models from outside OpenMMLab, in the environment that ``make test-foreign`` makes."""

import re

import pytest

from mmdysample.catalogue.any_model import examine_apart
from mmdysample.catalogue.foreign_models import FOREIGN, available, distribution

# name: what is replaced, what is left, parameters
EXPECTED = {
    'RTDetrForObjectDetection': ('`model.encoder:0`, `model.encoder:1`', 3, 16448),
    'yolo11n.yaml': ('`model.11`, `model.14`', 0, 12352),
    'rtdetr-resnet50.yaml': ('`model.8`, `model.13`', 0, 16448),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', EXPECTED)
def test_replaced_trained_and_exported(name):
    if name not in available():
        pytest.skip(f'{" or ".join(FOREIGN[name].packages)} is not installed (make test-foreign has its own environment for it)')
    row = examine_apart(name)
    sites, left, parameters = EXPECTED[name]
    assert row['sites replaced'] == sites
    assert row['sites left'] == str(left)
    assert row['parameters added'] == f'{parameters:,}'
    assert row['a training step'] == 'yes'
    assert re.fullmatch(r'yes \(\de-0\d\)', row['ONNX'])


def test_a_missing_library_is_no_row():
    assert distribution(('no-such-distribution',)) == ''
