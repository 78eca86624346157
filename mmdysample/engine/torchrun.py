"""torchrun, but a mistake that the processes have named ends there, and not in torchrun's traceback about them.

``python -m mmdysample.engine.torchrun`` takes what ``torchrun`` takes.
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
        The exit code of the process that failed first, if one did.
    """
    # What torchrun logs of processes that end would bury what they said.
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
