"""Report the mistakes of a user in one line."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mmdysample.frameworks import explain_missing


@contextmanager
def exit_on_error(kinds: tuple[type[Exception], ...] = (ValueError, ImportError, OSError)) -> Iterator[None]:
    """Turn an error that names a rule, a value and a remedy into one line on stderr and exit code 2.

    Errors of other kinds are bugs of this package and keep their traceback. ``MMDYSAMPLE_TRACEBACK=1`` keeps every traceback.
    """
    try:
        yield
    except kinds as error:
        if show_traceback():
            raise
        text = explain_missing(error) if isinstance(error, ModuleNotFoundError) else one_line(error)
        print(f'error: {text}', file=sys.stderr)
        sys.exit(2)


def show_traceback() -> bool:
    """Return True if the user asks for tracebacks with ``MMDYSAMPLE_TRACEBACK=1``."""
    return os.environ.get('MMDYSAMPLE_TRACEBACK') == '1'


def one_line(error: BaseException) -> str:
    """Return the text of an error without line breaks; for an error in a data loader worker, only its last line."""
    text = str(error)
    if 'Original Traceback' in text:
        text = text.strip().splitlines()[-1]
    return ' '.join(text.split()) or type(error).__name__
