"""Report the mistakes of a user in one line."""

import os
import pickle
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mmdysample.frameworks import explain_missing

from .refusal import if_trusted, refused_by_torch

INTERRUPTED = 130  # the exit code of shells for Ctrl-C


class StoppedError(Exception):
    """Work stopped because of the data or the machine. The message is one line, and ``__cause__`` is what was raised."""


@contextmanager
def exit_on_error(kinds: tuple[type[Exception], ...] = (ValueError, ImportError, OSError)) -> Iterator[None]:
    """Turn an error that names a rule, a value and a remedy into one line on stderr and exit code 2. Ctrl-C gives one line and 130.

    Args:
        kinds: The kinds of such errors, beside :class:`StoppedError` and torch's refusal to load a file. Others are bugs of this package
            and keep their traceback. ``MMDYSAMPLE_TRACEBACK=1`` keeps every traceback.
    """
    named: tuple[type[Exception], ...] = (*kinds, StoppedError, pickle.UnpicklingError)
    try:
        yield
    except KeyboardInterrupt as error:
        if show_traceback():
            raise
        if os.environ.get('RANK', '0') == '0':  # the shell interrupts every process of a distributed training
            print(f'error: {str(error) or "interrupted"}', file=sys.stderr)
        sys.exit(INTERRUPTED)
    except named as error:
        if show_traceback():
            raise
        text = explain_missing(error) if isinstance(error, ModuleNotFoundError) else one_line(error)
        print(f'error: {text}', file=sys.stderr)
        sys.exit(2)


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
