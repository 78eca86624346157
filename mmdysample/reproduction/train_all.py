"""Trainings, done one after the other or several at a time, with a word on the screen about each; or printed for a shell."""

import shlex
import sys
from collections.abc import Sequence

from mmdysample.engine.errors import one_line
from mmdysample.terminal.progress import long_progress

from .trainings import LOG, Execute, Tools, Training, complete_all, execute


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


def print_commands(training: Training, tools: Tools) -> None:
    """Print what would be run, for a shell."""
    if 'seconds' not in training.note():
        print(shlex.join(tools.train(training)))
    checkpoint = shlex.quote(str(training.folder)) + f'/{training.tested}'
    print(f'{shlex.join(tools.test(training))} ' + (checkpoint if training.best else f'$(cat {checkpoint})'))
