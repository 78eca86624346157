"""Nothing is written by two at a time."""

import errno
import os
import subprocess
import sys

import pytest

from mmdysample.engine.files import check_out, hold, write_through

HOLDS = """
import os, sys, time
from pathlib import Path
from mmdysample.engine.files import hold
hold(Path(sys.argv[1]))
if os.fork() == 0:  # as a data loader's worker, which looks for its parent every five seconds
    time.sleep(5)
    os._exit(0)
print(os.getpid(), flush=True)
sys.stdin.read()
"""


def test_a_folder_is_held_as_long_as_the_process_lives(tmp_path):
    with subprocess.Popen(
        [sys.executable, '-c', HOLDS, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert int(process.stdout.readline()) == process.pid
        with pytest.raises(
            ValueError, match=f'^another training writes to {tmp_path}: wait until it has ended, or choose another --work-dir$'
        ):
            hold(tmp_path)
        process.kill()
        process.wait()
        hold(tmp_path)
        hold(tmp_path)  # its own


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_without_locks_is_no_reason_not_to_train(tmp_path, monkeypatch, number):
    def flock(file, kind):
        raise OSError(number, 'no locks here')

    monkeypatch.setattr('fcntl.flock', flock)
    hold(tmp_path)
    assert (tmp_path / '.training').stat().st_size == 0  # a mark in the file would be left by a training that is killed


def test_a_lock_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / '.training').mkdir()
    with pytest.raises(OSError, match='training'):
        hold(tmp_path)


@pytest.mark.parametrize('number', [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_that_cannot_write_through_is_no_reason_not_to_save(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, 'fsync', fails_with(number))
    (tmp_path / 'a').touch()
    write_through(tmp_path / 'a')
    write_through(tmp_path)


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'fsync', fails_with(errno.ENOSPC))
    with pytest.raises(OSError, match='No space'):
        write_through(tmp_path)


def fails_with(number):
    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    return fail


def test_a_folder_without_permission_is_told_before_the_work(tmp_path, monkeypatch):
    """The access is stubbed, because root may write everywhere."""
    asked = []
    monkeypatch.setattr(os, 'access', lambda path, mode: asked.append((path, mode)))
    with pytest.raises(ValueError, match=f'^--out {tmp_path}/new/x.pkl cannot be written: permission denied for {tmp_path}$'):
        check_out(tmp_path / 'new/x.pkl', force=False)
    assert asked == [(tmp_path, os.W_OK)]
    file = tmp_path / 'x.pkl'
    file.touch()
    monkeypatch.setattr(os, 'access', lambda path, mode: path != file)
    with pytest.raises(ValueError, match=f'permission denied for {file}$'):
        check_out(file, force=True)
