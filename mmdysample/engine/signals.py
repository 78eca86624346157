"""End on SIGTERM and SIGHUP as Python ends on Ctrl-C, and name the command that goes on."""

import argparse
import multiprocessing
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Optional

# The tools that go on where they were interrupted, called again with the same arguments. train.py also needs --resume.
GO_ON = ('train.py', 'reproduce.py', 'shapes_table.py')


class Terminated(KeyboardInterrupt):
    """SIGTERM asked this process to end. Like a KeyboardInterrupt, it takes a text."""

    number = 15


class HungUp(KeyboardInterrupt):
    """SIGHUP told this process that its terminal was closed. Like a KeyboardInterrupt, it takes a text."""

    number = 1


KINDS = {'SIGTERM': Terminated, 'SIGHUP': HungUp}


def exit_code(interruption: KeyboardInterrupt) -> int:
    """Return the exit code that shells give a signal: 130 for Ctrl-C, 143 for SIGTERM and 129 for SIGHUP."""
    return 128 + getattr(interruption, 'number', signal.SIGINT)


def find_interruption(error: Optional[BaseException]) -> Optional[KeyboardInterrupt]:
    """Return the interruption that an error is, or while which was handled it was raised; None if there was none."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error


@contextmanager
def signals_raise() -> Iterator[None]:
    """Let SIGTERM raise :class:`Terminated` and SIGHUP raise :class:`HungUp` in the main thread.

    A signal that is ignored, as by ``nohup``, or that has a handler is left as it is. Child processes of Python keep the default action.
    """
    kinds = {getattr(signal, name): kind for name, kind in KINDS.items() if _has_default(name)}
    process = os.getpid()

    def handle(number: int, frame: Optional[FrameType]) -> None:
        if os.getpid() != process:  # forked, such as a worker of a data loader
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if hasattr(signal, 'SIGCHLD') and callable(signal.getsignal(signal.SIGCHLD)):
            # torch raises an error when a signal ends a worker of a data loader, and this one may have gone to the workers as well.
            signal.signal(signal.SIGCHLD, lambda number, frame: None)
        raise kinds[number]

    for number in kinds:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in kinds:
            if signal.getsignal(number) is handle:
                signal.signal(number, signal.SIG_DFL)


def _has_default(name: str) -> bool:
    """Return True if a signal exists on this system, and this process is to change its default action."""
    if threading.current_thread() is not threading.main_thread() or multiprocessing.parent_process() is not None:
        return False
    # torchrun sends SIGTERM to the other processes when one has failed. That one has said why, so they must end in silence.
    if name == 'SIGTERM' and 'TORCHELASTIC_RUN_ID' in os.environ:
        return False
    return hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is signal.SIG_DFL


def command_to_continue(resume: Optional[str] = None) -> str:
    """Return the command line that continues the work of this process, quoted for a shell; ``''`` for a tool that cannot continue.

    Args:
        resume: The checkpoint for ``train.py --resume``, or ``'auto'`` for the latest one; by default what this process was called with.
    """
    tool, *arguments = sys.argv
    if Path(tool).name not in GO_ON:
        return ''
    if Path(tool).name == 'train.py':
        parser = argparse.ArgumentParser(add_help=False)
        parser.add_argument('--resume', nargs='?', const='auto', default='auto')
        parser.add_argument('--launcher', nargs='?')
        given, arguments = parser.parse_known_args(arguments)
        resume = resume or given.resume
        if given.launcher not in (None, 'none'):  # the user's command starts a launcher, which this process does not know
            return 'the same command with --resume' + ('' if resume == 'auto' else f' {shlex.quote(str(resume))}')
        arguments += ['--resume'] if resume == 'auto' else ['--resume', str(resume)]
    # Python 3.9 does not tell the name and the options of the interpreter.
    line = getattr(sys, 'orig_argv', sys.argv)
    interpreter = line[: -len(sys.argv)] if line[-len(sys.argv) :] == sys.argv else []
    return shlex.join([*(interpreter or ['python']), tool, *arguments])
