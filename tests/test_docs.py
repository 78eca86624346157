"""What the README says can be run is run, and the files that it names exist."""

import re

from conftest import ROOT

README = (ROOT / 'README.md').read_text()


def test_its_python_runs():
    blocks = re.findall(r'```python\n(.*?)```', README, flags=re.S)
    assert blocks
    for block in blocks:
        names: dict = {}
        exec(block, names)
        assert tuple(names['y'].shape) == (1, 256, 50, 84)


def test_its_files_exist():
    named = set(re.findall(r'(?<!\.mim/)(?:configs|tools)/[\w/.]+\.(?:py|sh)', README))
    assert len(named) >= 8
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_every_upsampler_has_a_row():
    from mmdysample import list_upsamplers

    table = README.split('## Upsamplers')[1].split('## Tools')[0]
    assert [name for name in list_upsamplers() if f'`{name}`' not in table] == []


def test_nothing_is_left_to_fill_in():
    assert re.findall(r'@[A-Z_]+@', README) == []
