"""What the checks of a user's data find, and how it is told."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Level = Literal['error', 'warning', 'mended']
LEVELS: tuple[Level, ...] = ('error', 'warning', 'mended')


@dataclass(frozen=True)
class Finding:
    """One kind of fault in one file or folder.

    Args:
        level: ``'error'`` if the result would be wrong or the work would fail, ``'warning'`` if data is lost or is probably not meant
            so, ``'mended'`` if the tools read it as it was meant. The user's files are never changed.
        place: The annotation file or the folder.
        what: The fault, for example ``'boxes reach beyond their image'``.
        remedy: What the user can do, or what the tools have done.
        count: How many entries have it.
        example: One of them: a file and an entry.
    """

    level: Level
    place: Path
    what: str
    remedy: str
    count: int = 1
    example: str = ''

    def __str__(self) -> str:
        """Return the finding as one line."""
        such = f' (such as {self.example})' if self.example else ''
        return f'{self.place}: {self.count} {self.what}{such}; {self.remedy}'


def tell(findings: Iterable[Finding], command: str) -> None:
    """Print what is mended and what is suspicious, one line each.

    Args:
        findings: The findings.
        command: The command that shows all of them.

    Raises:
        ValueError: A finding is an error. The message is the first one.
    """
    found = list(findings)
    for finding in found:
        if finding.level != 'error':
            print(f'{finding.level}: {finding}')
    errors = [finding for finding in found if finding.level == 'error']
    if errors:
        more = f' (and {len(errors) - 1} more: {command} shows all)' if len(errors) > 1 else ''
        raise ValueError(f'{errors[0]}{more}')
