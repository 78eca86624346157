"""Nothing asks Windows for what only POSIX has."""

import ast
import subprocess
import sys

import pytest
from conftest import ROOT

# Modules of the standard library that Windows lacks.
POSIX = ('fcntl', 'grp', 'pty', 'pwd', 'resource', 'syslog', 'termios', 'tty')
TOOLS = [path.stem for path in sorted((ROOT / 'tools').glob('*.py'))]
SOURCES = [ROOT / 'setup.py', *(path for folder in ('mmdysample', 'tools') for path in sorted((ROOT / folder).rglob('*.py')))]

# Imports every module, starts every tool as a worker process of it does where processes are not forked, and asks it for its help.
WITHOUT = """
import contextlib, importlib.util, io, pkgutil, runpy, sys

root, tools, missing = sys.argv[1], sys.argv[2].split(), sys.argv[3:]
sys.modules.update(dict.fromkeys(missing))
sys.path.insert(0, root)
import mmdysample

assert mmdysample.__file__.startswith(root)
names = [module.name for module in pkgutil.walk_packages(mmdysample.__path__, 'mmdysample.')]
for name in names:
    library = name.split('.')[1]  # mmdysample.transformers and mmdysample.ultralytics are for the libraries of these names
    if library not in ('transformers', 'ultralytics') or importlib.util.find_spec(library):
        __import__(name)
for tool in tools:
    path = f'{root}/tools/{tool}.py'
    runpy.run_path(path, run_name='__mp_main__')
    sys.argv = [path, '--help']
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        runpy.run_path(path, run_name='__main__')
    assert text.getvalue().startswith('usage: '), tool
print(len(names))
"""


@pytest.mark.slow
def test_modules_and_tools_need_no_module_of_posix():
    pytest.importorskip('mmdet')
    pytest.importorskip('mmseg')
    command = [sys.executable, '-W', 'ignore', '-c', WITHOUT, str(ROOT), ' '.join(TOOLS), *POSIX]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_text_files_have_an_encoding():
    """Without one, Windows reads and writes them in the code page of the user."""
    assert [(path.name, line) for path in SOURCES for line in _without_encoding(path.read_text(encoding='utf-8'))] == []
    lines = "a.open('w')", "open(a, 'rb')", "a.open(encoding='utf-8')", 'open(a)', 'a.read_text()', 'm.open(path)'
    assert list(_without_encoding('\n'.join(lines))) == [1, 4, 5]


def _without_encoding(source):
    """Yield the lines that open a text file without an encoding."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and _opens_text(node) and 'encoding' not in {keyword.arg for keyword in node.keywords}:
            yield node.lineno


def _opens_text(call):
    name = getattr(call.func, 'attr', getattr(call.func, 'id', ''))
    if name in ('read_text', 'write_text'):
        return True
    position = 0 if isinstance(call.func, ast.Attribute) else 1  # of the mode, in path.open() and open()
    modes = [*call.args[position : position + 1], *(keyword.value for keyword in call.keywords if keyword.arg == 'mode')]
    return name == 'open' and all(isinstance(mode, ast.Constant) and 'b' not in str(mode.value) for mode in modes)
