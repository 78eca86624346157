"""Mistakes of a user end in one line."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def exit_on_error(kinds: tuple[type[Exception], ...] = (ValueError, ImportError, OSError)) -> Iterator[None]:
    """Turn an error that names a rule, a value and a remedy into one line on stderr and exit code 2.

    Anything but these ``kinds`` is a fault of ours and keeps its traceback;
    ``MMDYSAMPLE_TRACEBACK=1`` keeps every one.
    """
    try:
        yield
    except kinds as error:
        if show_traceback():
            raise
        print(f'error: {one_line(error)}', file=sys.stderr)
        sys.exit(2)


def show_traceback() -> bool:
    """Whether the user wants tracebacks."""
    return os.environ.get('MMDYSAMPLE_TRACEBACK') == '1'


def one_line(error: BaseException) -> str:
    """The text of an error without line breaks; of one that a data loader's worker raised, its last line."""
    text = str(error)
    if 'Original Traceback' in text:
        text = text.strip().splitlines()[-1]
    return ' '.join(text.split()) or type(error).__name__
