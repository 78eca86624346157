"""README and documentation: every Python block runs, every command parses, every file and upsampler is there."""

import contextlib
import doctest
import re
import runpy
import shlex
import sys

import pytest
from conftest import ROOT

README = (ROOT / 'README.md').read_text()
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')))}
BLOCKS = [
    pytest.param(code, id=f'{page}-{i}')
    for page, text in PAGES.items()
    for i, code in enumerate(re.findall(r'```python\n(.*?)```', text, flags=re.S))
]
COMMANDS = sorted(
    {
        re.split(r'\s+#|\s*[|;&]', line)[0].strip()
        for text in PAGES.values()
        for block in re.findall(r'```(?:bash|sh)\n(.*?)```', text, flags=re.S)
        for line in block.replace('\\\n', ' ').splitlines()
        if re.match(r'(?:\w+=\S+\s+)*python tools/', line.strip())
    }
)


@pytest.mark.parametrize('code', BLOCKS)
def test_a_python_block_runs(code):
    if not code.startswith('>>> '):
        exec(code, {})
        return
    example = doctest.DocTestParser().get_doctest(code, {}, 'block', None, None)
    assert doctest.DocTestRunner(verbose=False).run(example).failed == 0


def test_the_blocks_of_the_readme_show_the_shape_that_they_name():
    shown = [code for code in re.findall(r'```python\n(.*?)```', README, flags=re.S)]
    assert len(shown) >= 3
    for code in shown:
        names: dict = {}
        exec(code, names)
        assert tuple(names['y'].shape) == (1, 256, 50, 84)


class Parsed(Exception):  # noqa: N818
    """Raised in place of running a command whose arguments were parsed."""


@pytest.mark.parametrize('command', COMMANDS)
def test_a_command_parses(command, monkeypatch, capsys):
    import argparse

    words = shlex.split(command)  # variables may stand before python
    tool, *arguments = words[words.index('python') + 1 :]
    parse = argparse.ArgumentParser.parse_args

    def parse_only(self, args=None, namespace=None):
        parse(self, args, namespace)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse_only)
    monkeypatch.setattr(sys, 'argv', [tool, *arguments])
    with pytest.raises(Parsed):
        runpy.run_path(tool, run_name='__main__')


def test_there_are_commands():
    assert len(COMMANDS) >= 20


def test_the_files_that_are_named_exist():
    for page, text in PAGES.items():
        named = set(re.findall(r'(?<![\w./])(?:configs|tools)/[\w/.]+\.(?:py|sh)', text))
        assert [path for path in named if not (ROOT / path).is_file()] == [], page


def test_every_upsampler_has_a_row_and_its_parameters():
    from mmdysample import build_upsampler, list_upsamplers

    rows = dict(re.findall(r'^\| `([\w+-]+)` \|.*\| ([\d,]+) \|$', README, flags=re.M))
    assert sorted(rows) == sorted(list_upsamplers())
    for name, shown in rows.items():
        assert shown == f'{sum(p.numel() for p in build_upsampler(name, 256).parameters()):,}', name


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 200


def test_nothing_is_left_to_fill_in():
    for page, text in PAGES.items():
        assert re.findall(r'@[A-Z_]+@|TODO|FIXME', text) == [], page


def test_env_names_no_path_of_the_machine(capsys):
    with contextlib.redirect_stderr(None):
        runpy.run_module('mmdysample.env', run_name='__main__')
    out = capsys.readouterr().out
    assert re.search(r'^torch 2\.', out, flags=re.M)
    assert re.search(r'^cpu, training: path \w+, because ', out, flags=re.M)
    assert str(ROOT) not in out
