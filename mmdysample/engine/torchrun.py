"""Run torchrun without its traceback when a process has already reported a mistake in one line.

``python -m mmdysample.engine.torchrun`` takes the arguments of ``torchrun``.
"""

import logging
import signal
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

from mmdysample.engine.errors import show_traceback

NAMED = 2  # the exit code of exit_on_error


def launch() -> int:
    """Run torchrun with the arguments of this process.

    Returns:
        The exit code of the process that failed first (1 if a signal killed it); 130 for Ctrl-C, as in shells, and 143 for SIGTERM; 0 if
        none failed.
    """
    # torchrun logs every signal and every process that ends, which would bury the message of the process itself.
    for name in ('multiprocessing.api', 'agent.server.api'):
        logging.getLogger(f'torch.distributed.elastic.{name}').setLevel(logging.CRITICAL)
    try:
        main()
    except ChildFailedError as error:
        if show_traceback():
            raise
        rank, failure = error.get_first_failure()
        if failure.exitcode != NAMED:
            print(f'error: process {rank} ended with {_how(failure.exitcode)}', file=sys.stderr)
        return failure.exitcode if failure.exitcode > 0 else 1
    except SignalException as error:
        if show_traceback():
            raise
        if error.sigval != signal.SIGINT:  # for Ctrl-C, the first process prints the line
            print(f'error: ended by signal {error.sigval:d}', file=sys.stderr)
        return 128 + error.sigval
    return 0


def _how(code: int) -> str:
    return f'signal {-code}' if code < 0 else f'exit code {code}'


if __name__ == '__main__':
    sys.exit(launch())
