"""Ctrl-C, SIGTERM and SIGHUP end the tools and their children, and the line that they print continues the work."""

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest
from conftest import ROOT

from mmdysample.engine.errors import exit_on_error
from mmdysample.engine.signals import command_to_continue
from mmdysample.reproduction import running
from mmdysample.reproduction.training import TrainingError

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
SEGFORMER = 'configs/shapes/segformer_b1_dysample_shapes.py'


@pytest.mark.parametrize(
    ('line', 'command'),
    [
        ('tools/train.py a.py', 'tools/train.py a.py --resume'),
        ('tools/train.py a.py --resume', 'tools/train.py a.py --resume'),
        ('tools/train.py --resume --amp a.py', 'tools/train.py --amp a.py --resume'),
        ('tools/train.py a.py --resume b.pth', 'tools/train.py a.py --resume b.pth'),
        ('tools/train.py a.py --res=b.pth', 'tools/train.py a.py --resume b.pth'),
        (
            """tools/train.py 'my a.py' --cfg-options a=1 b="dict(type='B')" --upsampler x""",
            """tools/train.py 'my a.py' --cfg-options a=1 'b=dict(type='"'"'B'"'"')' --upsampler x --resume""",
        ),
        ('tools/train.py a.py --launcher none --amp', 'tools/train.py a.py --amp --resume'),
        ('tools/reproduce.py all --jobs 2', 'tools/reproduce.py all --jobs 2'),
        ('/there/shapes_table.py', '/there/shapes_table.py'),
    ],
)
def test_the_command_that_continues(monkeypatch, line, command):
    monkeypatch.setattr('sys.argv', shlex.split(line))
    monkeypatch.setattr('sys.orig_argv', ['.venv/bin/python', '-W', 'ignore', *shlex.split(line)], raising=False)
    assert command_to_continue() == f'.venv/bin/python -W ignore {command}'
    monkeypatch.delattr('sys.orig_argv')
    assert command_to_continue() == f'python {command}'
    if 'train.py' in line:
        for resume, told in (('auto', ''), ('my c.pth', " 'my c.pth'")):
            assert command_to_continue(resume) == f'python {command.removesuffix(" b.pth")}{told}'


@pytest.mark.parametrize('option', ['--launcher pytorch', '--launcher=slurm', '--launch mpi'])
def test_the_command_of_a_launcher_is_not_known(monkeypatch, option):
    monkeypatch.setattr('sys.argv', ['tools/train.py', 'a.py', *option.split()])
    assert command_to_continue() == 'the same command with --resume'
    assert command_to_continue('my b.pth') == "the same command with --resume 'my b.pth'"


def test_a_tool_that_begins_anew(monkeypatch):
    monkeypatch.setattr('sys.argv', ['tools/test.py', 'a.py', 'b.pth'])
    assert command_to_continue() == ''


@pytest.mark.parametrize(('number', 'code'), CODES.items())
def test_a_signal_is_one_line(capfd, monkeypatch, number, code):
    before = signal.getsignal(number)
    with pytest.raises(SystemExit, match=str(code)), exit_on_error():
        os.kill(os.getpid(), number)
    assert capfd.readouterr().err == 'error: interrupted\n'
    assert signal.getsignal(number) is before
    monkeypatch.setattr('sys.argv', ['tools/train.py', 'a.py'])
    with pytest.raises(SystemExit, match=str(code)), exit_on_error(), exit_on_error():
        os.kill(os.getpid(), number)
    assert capfd.readouterr().err == 'error: interrupted: continue with python tools/train.py a.py --resume\n'


def fail_while_handling(number):
    """The runner adds what was saved, and then a worker of the data loader is found dead."""
    try:
        os.kill(os.getpid(), number)
    except KeyboardInterrupt as error:
        try:
            raise type(error)('interrupted; iter_7.pth is saved') from None
        finally:
            raise RuntimeError('DataLoader worker (pid 7) is killed by signal: Terminated.')


@pytest.mark.parametrize(('number', 'code'), CODES.items())
def test_an_error_during_an_interruption_is_the_interruption(capfd, number, code):
    with pytest.raises(SystemExit, match=str(code)), exit_on_error():
        fail_while_handling(number)
    assert capfd.readouterr().err == 'error: interrupted; iter_7.pth is saved\n'


def test_workers_that_the_signal_ends_too_raise_nothing(capfd):
    """torch raises an error when SIGCHLD tells of a worker of a data loader that was killed."""

    def complain(number, frame):
        raise RuntimeError('DataLoader worker (pid 7) is killed by signal: Terminated.')

    before = signal.signal(signal.SIGCHLD, complain)
    try:
        with pytest.raises(SystemExit, match='143'), exit_on_error():
            save_when_terminated()
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert capfd.readouterr().err == 'error: interrupted; iter_7.pth is saved\n'


def save_when_terminated():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt as error:
        os.kill(os.getpid(), signal.SIGCHLD)
        raise type(error)('interrupted; iter_7.pth is saved') from None


def fail_after_handling():
    with suppress(KeyboardInterrupt):
        raise KeyboardInterrupt
    raise ValueError('no place')


def test_an_error_after_an_interruption_is_an_error(capfd):
    with pytest.raises(SystemExit, match='2'), exit_on_error():
        fail_after_handling()
    assert capfd.readouterr().err == 'error: no place\n'


def test_handlers_of_others_stay(monkeypatch):
    """``nohup`` ignores SIGHUP, and torchrun sends SIGTERM to processes that must say nothing."""
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with exit_on_error():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'none')
    with exit_on_error():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    thread = threading.Thread(target=lambda: exit_on_error().__enter__())
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_a_forked_process_ends_in_silence(capfd, number):
    read, write = os.pipe()
    with exit_on_error():
        child = os.fork()
        if child == 0:
            os.write(write, b'begun')
            time.sleep(60)
            os._exit(0)
        os.read(read, 5)
        os.kill(child, number)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -number
    assert capfd.readouterr().err == ''


# As a training by torchrun: its processes are in groups of their own. They ignore SIGTERM, unless told otherwise.
FAMILY = """
trap {trap} TERM
setsid bash -c "trap '' TERM; touch $0/far; sleep 60" & bash -c "trap '' TERM; touch $0/near; sleep 60" &
while true; do sleep 0.05; done
"""


def alive(marker):
    """The processes whose command line holds a text, beside this one."""
    lines = subprocess.check_output(['ps', '-A', '-ww', '-o', 'pid=', '-o', 'command='], text=True).splitlines()
    return [line for line in lines if str(marker) in line and int(line.split()[0]) != os.getpid()]


@pytest.mark.slow
@pytest.mark.parametrize(('trap', 'second'), [('exit', False), ("''", False), ("''", True)], ids=['ends', 'refuses', 'again'])
def test_all_descendants_end(tmp_path, monkeypatch, trap, second):
    monkeypatch.setattr(running, 'PATIENCE', 60 if second else 0.5)
    processes, codes = running.Processes(), []
    command = ['bash', '-c', FAMILY.format(trap=trap), str(tmp_path)]

    def run():
        with (tmp_path / 'held').open('w') as held:
            codes.append(processes(command, tmp_path / 'log', held.fileno()))

    thread = threading.Thread(target=run)
    thread.start()
    while not ((tmp_path / 'far').exists() and (tmp_path / 'near').exists()):
        time.sleep(0.01)
    if second:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            processes.end()
    else:
        processes.end()
    thread.join(10)
    assert codes == [0 if trap == 'exit' else -signal.SIGKILL]
    deadline = time.monotonic() + 10
    while alive(tmp_path):
        assert time.monotonic() < deadline, alive(tmp_path)
    with pytest.raises(TrainingError, match='not started'), (tmp_path / 'held').open('w') as held:
        processes(command, tmp_path / 'log', held.fileno())


@pytest.mark.slow
def test_process_groups_without_proc(monkeypatch, tmp_path):
    child = subprocess.Popen(['bash', '-c', 'sleep 60 & setsid sleep 60 & wait'], start_new_session=True)
    while len(found := running.process_groups(child.pid)) < 2:
        time.sleep(0.01)
    monkeypatch.setattr(running, 'PROC', tmp_path)
    assert running.process_groups(child.pid) == found > {child.pid}
    with monkeypatch.context() as patched:
        patched.setattr(running, 'which', lambda name: None)  # a container without ps
        assert running.process_groups(child.pid) == {child.pid}
    for group in found:
        os.killpg(group, signal.SIGKILL)
    child.wait()


@pytest.fixture
def interrupt(shapes, tmp_path):
    """Start a command line in a shell, signal its process when a file is there, and return its exit code and its last line."""
    environment = {**os.environ, 'SHAPES_ROOT': str(shapes), 'OMP_NUM_THREADS': '1'}

    def call(line, number=None, when=''):
        with (tmp_path / 'printed').open('w+') as file:
            process = subprocess.Popen(
                f'exec {line}', shell=True, cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True
            )
            deadline = time.monotonic() + 200
            while number and not list(tmp_path.glob(when)):
                assert process.poll() is None, (tmp_path / 'printed').read_text()[-3000:]
                assert time.monotonic() < deadline
                time.sleep(0.02)
            if number:
                assert len(alive(tmp_path)) > 2  # with the workers of its data loader
                process.send_signal(number)  # not its children
                deadline = time.monotonic() + 10
            while process.poll() is None or (number and alive(tmp_path)):
                assert time.monotonic() < deadline, alive(tmp_path)
                time.sleep(0.1)
            printed = (tmp_path / 'printed').read_text()
        assert not re.search('Traceback|failed:', printed), printed[-3000:]
        errors = [line for line in printed.splitlines() if line.startswith('error:')]
        assert process.returncode == (CODES[number] if number else 0), printed[-3000:]
        assert len(errors) == bool(number)
        return errors[0].rpartition('continue with ')[2] if errors else printed

    return call


OPTIONS = 'shapes.train=16 shapes.val=8 train_cfg.max_iters=24 train_cfg.val_interval=24 default_hooks.checkpoint.interval=2'
WORKERS = 'train_dataloader.num_workers=2 train_dataloader.persistent_workers=True'


@pytest.mark.slow
def test_train(interrupt, tmp_path):
    work = tmp_path / "a user's work"
    options = f'--work-dir {shlex.quote(str(work))} --cfg-options {OPTIONS} {WORKERS}'
    line = interrupt(f'{sys.executable} -W ignore tools/train.py {SEGFORMER} {options}', signal.SIGTERM, '*/iter_2.pth')
    assert line.endswith(' --resume')
    assert 'resuming from' in (printed := interrupt(line))
    assert f'checkpoint: {work}/iter_24.pth' in printed


@pytest.mark.slow
def test_reproduce(interrupt, tmp_path):
    command = f'{sys.executable} -W ignore tools/reproduce.py segformer --data shapes --rows DySample --out {tmp_path}/out'
    line = interrupt(f'{command} --cfg-options {OPTIONS} {WORKERS}', signal.SIGINT, 'out/*/*/seed0/iter_2.pth')
    assert 'done: segformer_shapes/DySample/seed0' in interrupt(line)
    log = (tmp_path / 'out/segformer_shapes/DySample/seed0/output.log').read_text()
    assert len(re.findall(r'^\$ .*train.py.* --resume', log, re.MULTILINE)) == 1
