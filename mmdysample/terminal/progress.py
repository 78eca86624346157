"""Show the progress of long work on stderr."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Optional, Protocol, TypeVar

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, track
from rich.text import Text

T = TypeVar('T')


def progress(items: Iterable[T], label: str, total: Optional[int] = None) -> Iterator[T]:
    """Iterate over items with a progress bar and the time left, on stderr because stdout is for results.

    Args:
        items: The items.
        label: Name of the work.
        total: Number of items, if they have no length.
    """
    console = Console(stderr=True)
    # Without a terminal, rich would print an empty line at the end, even in front of an error.
    yield from track(items, label, total, transient=True, console=console, disable=not console.is_interactive)


class TimeLeft(ProgressColumn):
    """A column with the time left at the average speed. rich's own column uses only the last half minute."""

    def render(self, task: Task) -> Text:
        """Return the time left of a task; its field ``at`` is the end of the last part, in seconds since the task began."""
        if not task.completed or task.total is None:
            return Text('-:--:--', style='progress.remaining')
        left = max(0.0, task.fields['at'] * task.total / task.completed - (task.elapsed or 0.0))
        return Text(str(timedelta(seconds=round(left))), style='progress.remaining')


class Advance(Protocol):
    """A function that reports the end of some parts, with a line that stays on the screen."""

    def __call__(self, line: str = '', parts: int = 1) -> None: ...


class ProgressOverLines(Progress):
    """A progress bar above lines about the current work, which are cut at the width of the terminal."""

    now: Callable[[], str] = str

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the bar and the lines."""
        yield from super().get_renderables()
        yield from (Text(line, no_wrap=True, overflow='ellipsis') for line in self.now().splitlines())


@contextmanager
def long_progress(label: str, total: int, now: Callable[[], str] = str) -> Iterator[Advance]:
    """Show on stderr how many long parts of some work are done, and the time left.

    Args:
        label: Name of the work.
        total: Number of parts.
        now: A function that returns the state of the current parts, in lines.

    Yields:
        A function to call when parts have ended.
    """
    columns = (
        TextColumn('{task.description}'),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn('left:'),
        TimeLeft(),
    )
    # Refresh only twice a second, because ``now`` may read files.
    with ProgressOverLines(*columns, transient=True, console=Console(stderr=True), refresh_per_second=2) as bar:
        bar.now = now
        bar.add_task(label, total=total, at=0.0)
        (task,) = bar.tasks

        def ended(line: str = '', parts: int = 1) -> None:
            if line:
                bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
            bar.update(task.id, advance=parts, at=task.elapsed or 0.0)

        yield ended
