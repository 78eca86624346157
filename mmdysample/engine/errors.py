"""Report the mistakes of a user in one line."""

import atexit
import os
import pickle
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mmdysample.frameworks import explain_missing

from .refusal import if_trusted, refused_by_torch
from .signals import command_to_continue, exit_code, find_interruption, signals_raise


class StoppedError(Exception):
    """Work stopped because of the data or the machine. The message is one line, and ``__cause__`` is what was raised."""


@contextmanager
def exit_on_error(kinds: tuple[type[Exception], ...] = (ValueError, ImportError, OSError)) -> Iterator[None]:
    """Turn an error that names a rule, a value and a remedy into one line on stderr and exit code 2.

    Ctrl-C, SIGTERM and SIGHUP give one line, with the command that continues the work where there is one, and exit codes 130, 143 and 129.

    Args:
        kinds: The kinds of such errors, beside :class:`StoppedError` and torch's refusal to load a file. Others are bugs of this package
            and keep their traceback. ``MMDYSAMPLE_TRACEBACK=1`` keeps every traceback.
    """
    named: tuple[type[Exception], ...] = (*kinds, StoppedError, pickle.UnpicklingError)
    with signals_raise():
        try:
            yield
        except (KeyboardInterrupt, Exception) as error:
            if show_traceback():
                raise
            if interruption := find_interruption(error):
                _say_interrupted(str(interruption))
                sys.exit(exit_code(interruption))
            if not isinstance(error, named):
                raise
            text = explain_missing(error) if isinstance(error, ModuleNotFoundError) else one_line(error)
            sys.stderr.write(f'error: {text}\n')  # in one piece, because other processes may write as well
            sys.exit(2)


def _say_interrupted(text: str) -> None:
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C shows no traceback of Python's own exit
    if os.environ.get('RANK', '0') != '0':  # a signal reaches every process of a distributed training
        return
    command = command_to_continue()
    with suppress(OSError):  # the terminal was closed
        print(f'error: {text or "interrupted" + (f": continue with {command}" if command else "")}', file=sys.stderr, flush=True)


def show_traceback() -> bool:
    """Return True if the user asks for tracebacks with ``MMDYSAMPLE_TRACEBACK=1``."""
    return os.environ.get('MMDYSAMPLE_TRACEBACK') == '1'


def one_line(error: BaseException) -> str:
    """Return the text of an error without line breaks; for an error in a data loader worker, only its last line.

    For a file that torch refuses to load, the text names our option and not torch's advice, which is to switch the safety off.
    """
    text = str(error)
    if refused := refused_by_torch(text):
        return f'a file of weights holds more than data: {refused}. {if_trusted()}'
    if 'Original Traceback' in text:
        text = re.sub(r'^mmdysample\.[\w.]+: ', '', text.strip().splitlines()[-1])  # the type of an error of this package says nothing
    return ' '.join(text.split()) or type(error).__name__
