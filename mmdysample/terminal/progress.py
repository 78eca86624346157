"""Progress of long work."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol, TypeVar

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, track
from rich.text import Text

T = TypeVar('T')


def progress(items: Iterable[T], label: str) -> Iterator[T]:
    """Go through items with a bar and the time left, on stderr: results go to stdout."""
    yield from track(items, label, transient=True, console=Console(stderr=True))


class TimeLeft(ProgressColumn):
    """The time left at the pace so far. rich's own column forgets what took longer than half a minute."""

    def render(self, task: Task) -> Text:
        """The text of a task whose field ``at`` says when its last part ended, in seconds since it began."""
        if not task.completed or task.total is None:
            return Text('-:--:--', style='progress.remaining')
        left = max(0.0, task.fields['at'] * task.total / task.completed - (task.elapsed or 0.0))
        return Text(str(timedelta(seconds=round(left))), style='progress.remaining')


class Advance(Protocol):
    """Say that a part has ended, with a line about it that stays on the screen, or that several have."""

    def __call__(self, line: str = '', parts: int = 1) -> None: ...


class ProgressOverLines(Progress):
    """A progress bar over lines that say what is being done at the moment, cut at the width of the terminal."""

    now: Callable[[], str] = str

    def get_renderables(self) -> Iterable[RenderableType]:
        """What is drawn."""
        yield from super().get_renderables()
        yield from (Text(line, no_wrap=True, overflow='ellipsis') for line in self.now().splitlines())


@contextmanager
def long_progress(label: str, total: int, now: Callable[[], str] = str) -> Iterator[Advance]:
    """Show on stderr how many of some long parts are done, and the time left.

    Args:
        label: What is being done.
        total: The number of parts.
        now: Tells how far the current parts have come, in lines.

    Yields:
        A function to be called when parts have ended.
    """
    columns = (
        TextColumn('{task.description}'),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn('left:'),
        TimeLeft(),
    )
    # Twice a second: to ask may mean to read files.
    with ProgressOverLines(*columns, transient=True, console=Console(stderr=True), refresh_per_second=2) as bar:
        bar.now = now
        bar.add_task(label, total=total, at=0.0)
        (task,) = bar.tasks

        def ended(line: str = '', parts: int = 1) -> None:
            if line:
                bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
            bar.update(task.id, advance=parts, at=task.elapsed or 0.0)

        yield ended
