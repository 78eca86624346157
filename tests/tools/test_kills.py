"""Trainings that are killed end as those that are not. ``python tests/kills.py`` kills more often."""

import pytest
from kills import compare

pytestmark = pytest.mark.slow


def test_killed_trainings_end_alike(monkeypatch, shapes):
    monkeypatch.setenv('SHAPES_ROOT', str(shapes))
    found = compare('train', keep=1, kills=1, at_saves=True, chains=1, seed=0)
    assert found['kills'] == 1
    assert found['equal to the bit'] == 1
