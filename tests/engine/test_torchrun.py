"""Processes that fail say why, and nothing is said after that."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow

FAILS = """
import os, signal, sys
if os.environ['RANK'] == '1':
    {}
"""

# Both processes work. Then the second fails, if an argument says so.
WORKS = """
import os, pathlib, sys, time
from mmdysample.engine.errors import exit_on_error
with exit_on_error():
    pathlib.Path(__file__).with_name(os.environ['RANK']).touch()
    if sys.argv[1:] and os.environ['RANK'] == '1':
        while not pathlib.Path(__file__).with_name('0').exists():
            time.sleep(0.1)
        raise ValueError('there is no data')
    time.sleep(60)
"""


def start(script, *arguments):
    command = [sys.executable, '-W', 'ignore', '-m', 'mmdysample.engine.torchrun', '--standalone', '--nproc_per_node=2', str(script)]
    return subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})


def launch(script, *arguments):
    process = start(script, *arguments)
    said = process.communicate(timeout=120)[1]
    return process.returncode, said


@pytest.mark.parametrize(
    ('deed', 'code', 'said'),
    [
        ("sys.exit(print('error: there is no data', file=sys.stderr) or 2)", 2, 'error: there is no data\n'),
        ('os.kill(os.getpid(), signal.SIGKILL)', 1, 'error: process 1 ended with signal 9\n'),
        ('os._exit(7)', 7, 'error: process 1 ended with exit code 7\n'),
        ('pass', 0, ''),
    ],
    ids=['named', 'killed', 'exit', 'none'],
)
def test_what_a_process_says_is_the_last_word(tmp_path, deed, code, said):
    (tmp_path / 'work.py').write_text(FAILS.format(deed))
    assert launch(tmp_path / 'work.py') == (code, said)


def test_the_others_say_nothing_when_one_has_failed(tmp_path):
    (tmp_path / 'work.py').write_text(WORKS)
    assert launch(tmp_path / 'work.py', 'fail') == (2, 'error: there is no data\n')


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_first_process_reports_a_signal(tmp_path, number, code):
    (tmp_path / 'work.py').write_text(WORKS)
    process = start(tmp_path / 'work.py')
    while not ((tmp_path / '0').exists() and (tmp_path / '1').exists()):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(number)
    said = process.communicate(timeout=10)[1]
    assert (process.returncode, said) == (code, 'error: interrupted\n')


def test_tracebacks_on_demand(tmp_path, monkeypatch):
    monkeypatch.setenv('MMDYSAMPLE_TRACEBACK', '1')
    (tmp_path / 'work.py').write_text(FAILS.format('os._exit(7)'))
    code, said = launch(tmp_path / 'work.py')
    assert code == 1
    assert 'ChildFailedError' in said
