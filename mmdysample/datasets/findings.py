"""What the checks of a user's data find, and how it is told."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Optional

Level = Literal['error', 'warning', 'mended']
LEVELS: tuple[Level, ...] = ('error', 'warning', 'mended')


@dataclass(frozen=True)
class Finding:
    """One kind of fault in one file or folder.

    Args:
        level: ``'error'`` if the result would be wrong or the work would fail, ``'warning'`` if data is lost or is probably not meant
            so, ``'mended'`` if the tools read it as it was meant. The user's files are never changed.
        place: The annotation file or the folder; None if the text names it.
        what: The fault, for example ``'boxes reach beyond their image'``.
        remedy: What the user can do, or what the tools have done.
        count: How many entries have it; None if that makes no sense.
        example: One of them: a file and an entry.
    """

    level: Level
    place: Optional[Path]
    what: str
    remedy: str = ''
    count: Optional[int] = 1
    example: str = ''

    def __str__(self) -> str:
        """Return the finding as one line."""
        such = f' (such as {self.example})' if self.example else ''
        count = '' if self.count is None else f'{self.count} '
        place, remedy = (f'{self.place}: ' if self.place else ''), (f'; {self.remedy}' if self.remedy else '')
        return f'{place}{count}{self.what}{such}{remedy}'


def tell(findings: Iterable[Finding]) -> None:
    """Print what is mended and what is suspicious, one line each, in the first of several processes.

    Args:
        findings: The findings.

    Raises:
        ValueError: A finding is an error. The message is the first one.
    """
    found = list(findings)
    for finding in found:
        if finding.level != 'error' and os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) == '0':
            print(f'{finding.level}: {finding}')
    errors = [finding for finding in found if finding.level == 'error']
    if errors:
        more = (
            f' (and {len(errors) - 1} more: python tools/check_data.py shows all, with the same config and flags)'
            if len(errors) > 1
            else ''
        )
        raise ValueError(f'{errors[0]}{more}')
