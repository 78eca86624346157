"""Processes that fail say why, and nothing is said after that."""

import os
import subprocess
import sys

import pytest

FAILS = """
import os, signal, sys
if os.environ['RANK'] == '1':
    {}
"""


def launch(script, *arguments):
    command = [sys.executable, '-W', 'ignore', '-m', 'mmdysample.engine.torchrun', '--nproc_per_node=2', '--master_port=29713', str(script)]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, env=environment, timeout=120)
    return done.returncode, done.stderr


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


def test_tracebacks_on_demand(tmp_path, monkeypatch):
    monkeypatch.setenv('MMDYSAMPLE_TRACEBACK', '1')
    (tmp_path / 'work.py').write_text(FAILS.format('os._exit(7)'))
    code, said = launch(tmp_path / 'work.py')
    assert code == 1
    assert 'ChildFailedError' in said
