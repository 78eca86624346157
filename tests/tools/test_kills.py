"""Trainings that are killed end as those that are not. ``python tests/kills.py`` kills more often."""

import pytest
from kills import compare

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(('tool', 'keep', 'at_saves'), [('train', 1, True), ('reproduce', None, False)])
def test_killed_trainings_end_alike(monkeypatch, shapes, tool, keep, at_saves):
    monkeypatch.setenv('SHAPES_ROOT', str(shapes))
    found = compare(tool, keep, kills=2, at_saves=at_saves, chains=1, seed=0)
    assert found['kills'] == 2
    assert found['equal to the bit'] == 1
