"""Progress of long work."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar('T')


def progress(items: Iterable[T], label: str) -> Iterator[T]:
    """Go through items with a bar and the time left, on stderr: results go to stdout."""
    yield from track(items, label, transient=True, console=Console(stderr=True))
