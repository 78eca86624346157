"""Run trainings, one or several at a time, with their progress on the screen; or print their commands for a shell."""

import shlex
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing
from queue import SimpleQueue
from threading import Event
from typing import Optional

from mmdysample.engine.errors import one_line
from mmdysample.terminal.progress import long_progress

from .processes import complete
from .running import Execute
from .tools import Tools
from .training import LOG, Training, TrainingError


def train_all(trainings: Sequence[Training], lanes: Sequence[Tools], execute: Execute, label: str = 'training on Shapes') -> list[str]:
    """Train and test all trainings and show the progress on stderr. An interruption ends what runs.

    Args:
        trainings: The trainings.
        lanes: The commands, one item for each training that runs at a time.
        execute: What runs a command.
        label: The text beside the progress bar.

    Returns:
        A line for each training that failed.
    """
    failures = []
    running: list[Training] = []

    def now() -> str:
        return '\n'.join(f'{training.name}  {training.state()}' for training in list(running))

    def began(training: Training) -> None:
        if not sys.stderr.isatty():  # without a terminal there is no progress bar, and hours would pass in silence
            ended(f'training: {training.name}, log: {training.folder / LOG}', parts=0)

    with long_progress(label, len(trainings), now) as ended, closing(complete_all(trainings, lanes, execute, running, began)) as results:
        for training, error in results:
            if error is None:
                try:
                    training.keep()
                except (OSError, ValueError) as problem:
                    error = problem
            if error is None:
                why = ' (since it was resumed)' if training.note()['resumed'] else ''
                ended(f'done: {training.name}, {training.minutes} min{why}')
            else:
                failures.append(f'failed: {training.name}: {one_line(error)}')
                ended(f'failed: {training.name}')
    return failures


def complete_all(
    trainings: Sequence[Training],
    lanes: Sequence[Tools],
    execute: Execute,
    running: Optional[list[Training]] = None,
    began: Callable[[Training], None] = lambda training: None,
) -> Generator[tuple[Training, Optional[Exception]], None, None]:
    """Train and test all trainings, one at a time in each lane. The others go on if one fails. Closing the generator ends what runs.

    Args:
        trainings: The trainings.
        lanes: The commands, one item for each training that runs at a time.
        execute: What runs a command.
        running: A list that is kept up to date with the trainings that run.
        began: A function that is called with each training that begins.

    Yields:
        Each training when it has ended, with its error or None.
    """
    running = [] if running is None else running
    free: SimpleQueue[Tools] = SimpleQueue()
    stopped = Event()
    for tools in lanes:
        free.put(tools)

    def complete_one(training: Training) -> None:
        tools = free.get()
        running.append(training)
        began(training)
        try:
            complete(training, tools, execute, stopped)
        finally:
            running.remove(training)
            free.put(tools)

    pool = ThreadPoolExecutor(len(lanes))
    try:
        futures: dict[Future, Training] = {pool.submit(complete_one, training): training for training in trainings}
        for future in as_completed(futures):
            error = future.exception()
            if error is not None and not isinstance(error, (TrainingError, ValueError, OSError)):
                raise error
            yield futures[future], error
    finally:
        stopped.set()
        pool.shutdown(wait=False, cancel_futures=True)
        try:
            execute.end()
        finally:
            pool.shutdown()


def print_commands(training: Training, tools: Tools) -> None:
    """Print the commands of a training for a shell."""
    if 'seconds' not in training.note():
        print(shlex.join(tools.train(training)))
    checkpoint = shlex.quote(str(training.folder)) + f'/{training.tested}'
    print(f'{shlex.join(tools.test(training))} ' + (checkpoint if training.best else f'$(cat {checkpoint})'))
