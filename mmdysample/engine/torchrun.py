"""Run torchrun without its traceback when a process has already reported a mistake or an interruption in one line.

``python -m mmdysample.engine.torchrun`` takes the arguments of ``torchrun``.
"""

import logging
import signal
import sys
from types import FrameType
from typing import Optional

from mmdysample.engine.errors import exit_on_error, show_traceback

with exit_on_error():
    from torch.distributed.elastic.multiprocessing import api
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

NAMED = 2  # the exit code of exit_on_error


def launch() -> int:
    """Run torchrun with the arguments of this process.

    Returns:
        The exit code of the process that failed first (1 if a signal killed it); 130 for Ctrl-C, 143 for SIGTERM and 129 for SIGHUP, as in
        shells; 0 if none failed.
    """
    # torchrun logs every signal and every process that ends, which would bury the message of the process itself.
    for name in ('multiprocessing.api', 'agent.server.api'):
        logging.getLogger(f'torch.distributed.elastic.{name}').setLevel(logging.CRITICAL)
    ignored = {number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN}  # as by nohup

    def interrupt(signum: int, frame: Optional[FrameType]) -> None:
        if signum not in ignored:
            raise Interrupted(signum)

    # torchrun installs this function as its handler of signals, and offers no other way to choose what the processes receive.
    api._terminate_process_handler = interrupt
    try:
        with exit_on_error(()):
            main()
    except ChildFailedError as error:
        if show_traceback():
            raise
        rank, failure = error.get_first_failure()
        if failure.exitcode != NAMED:
            print(f'error: process {rank} ended with {_how(failure.exitcode)}', file=sys.stderr)
        return failure.exitcode if failure.exitcode > 0 else 1
    except Interrupted as error:
        if show_traceback():
            raise
        return 128 + error.received  # the first process prints the line
    return 0


class Interrupted(api.SignalException):
    """A signal to this process. The processes of the training receive SIGINT for it: SIGTERM tells them that one of them has failed."""

    def __init__(self, received: int) -> None:
        super().__init__(f'received signal {received}', sigval=signal.SIGINT)
        self.received = received


def _how(code: int) -> str:
    return f'signal {-code}' if code < 0 else f'exit code {code}'


if __name__ == '__main__':
    sys.exit(launch())
