"""Train one after the other or several at a time, and say on the screen how it goes; or print the commands for a shell."""

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from queue import SimpleQueue
from threading import Event
from typing import Optional

from mmdysample.engine.errors import one_line
from mmdysample.terminal.progress import long_progress

from .processes import Execute, complete, execute
from .tools import Tools
from .training import LOG, Training, TrainingError


def train_all(
    trainings: Sequence[Training], lanes: Sequence[Tools], execute: Execute = execute, label: str = 'training on Shapes'
) -> list[str]:
    """Train and test what is not complete, and say how it goes.

    Returns:
        A line about each that failed.
    """
    failures = []
    running: list[Training] = []

    def now() -> str:
        return '\n'.join(f'{training.name}  {training.state()}' for training in list(running))

    def began(training: Training) -> None:
        if not sys.stderr.isatty():  # where no bar is drawn, hours would pass without a word
            ended(f'training: {training.name}, log: {training.folder / LOG}', parts=0)

    with long_progress(label, len(trainings), now) as ended:
        for training, error in complete_all(trainings, lanes, execute, running, began):
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
    execute: Execute = execute,
    running: Optional[list[Training]] = None,
    began: Callable[[Training], None] = lambda training: None,
) -> Iterator[tuple[Training, Optional[Exception]]]:
    """Train and test each, one at a time in each lane; one that fails keeps no other from going on.

    Args:
        trainings: What to train.
        lanes: The commands, as many as there shall be trainings at a time.
        execute: What runs the commands.
        running: A list that shall hold those that have begun and not ended.
        began: Is told of each that begins.

    Yields:
        Each when it has ended, with what went wrong.
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
        pool.shutdown(cancel_futures=True)


def print_commands(training: Training, tools: Tools) -> None:
    """Print what would be run, for a shell."""
    if 'seconds' not in training.note():
        print(shlex.join(tools.train(training)))
    checkpoint = shlex.quote(str(training.folder)) + f'/{training.tested}'
    print(f'{shlex.join(tools.test(training))} ' + (checkpoint if training.best else f'$(cat {checkpoint})'))
