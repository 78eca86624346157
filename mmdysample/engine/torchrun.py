"""Run torchrun without its traceback when a process has already reported a mistake in one line.

``python -m mmdysample.engine.torchrun`` takes the arguments of ``torchrun``.
"""

import logging
import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

from mmdysample.engine.errors import show_traceback

NAMED = 2  # the exit code of exit_on_error


def launch() -> int:
    """Run torchrun with the arguments of this process.

    Returns:
        The exit code of the process that failed first (1 if a signal killed it); 0 if none failed.
    """
    # torchrun logs every process that ends, which would bury the message of the process itself.
    logging.getLogger('torch.distributed.elastic.multiprocessing.api').setLevel(logging.CRITICAL)
    try:
        main()
    except ChildFailedError as error:
        if show_traceback():
            raise
        rank, failure = error.get_first_failure()
        if failure.exitcode != NAMED:
            print(f'error: process {rank} ended with {_how(failure.exitcode)}', file=sys.stderr)
        return failure.exitcode if failure.exitcode > 0 else 1
    return 0


def _how(code: int) -> str:
    return f'signal {-code}' if code < 0 else f'exit code {code}'


if __name__ == '__main__':
    sys.exit(launch())
