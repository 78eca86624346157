"""Keep the alternate signal stack of a thread while a library replaces it."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional


class SignalStack(ctypes.Structure):
    """``stack_t`` of Linux, see ``man sigaltstack``."""

    _fields_ = [('address', ctypes.c_void_p), ('flags', ctypes.c_int), ('size', ctypes.c_size_t)]


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Restore the alternate signal stack of this thread at the end.

    OpenVINO 2026.4 sets one for each model that it compiles, and puts back the one before when the model is closed. That may be the stack
    of a model that was closed earlier, whose memory is free. Python's handlers run on it, so the next Ctrl-C would end the process by
    SIGSEGV.
    """
    before = current_signal_stack()
    try:
        yield
    finally:
        if before is not None:
            ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)


def current_signal_stack() -> Optional[SignalStack]:
    """Return the alternate signal stack of this thread; None on other systems than Linux."""
    if sys.platform != 'linux':
        return None
    stack = SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    return stack
