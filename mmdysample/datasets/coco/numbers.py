"""Mend numbers that a COCO file holds as text, and ids."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Optional

from ..findings import Finding

Entry = dict[str, Any]


def integer(value: Any) -> Optional[int]:
    """Return a value as an integer if it is one, or is written as ``1.0`` or as text; None otherwise."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, int):
        return value
    try:
        return int(value) if isinstance(value, str) else None
    except ValueError:
        return None


def number(value: Any) -> Optional[float]:
    """Return a value as a number, also if it is written as text; None for anything else. It may be infinite or NaN."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return value
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None


def integers(values: Iterable[Any]) -> Optional[set[int]]:
    """Return values as integers, or None if one of them is none."""
    found = {integer(value) for value in values}
    return None if None in found else found  # type: ignore[return-value]


def mend_ids(path: Path, name: str, owners: list[Entry], users: list[Entry], key: str) -> Iterator[Finding]:
    """Make ids integers, unless all are text.

    ``"1"`` and ``1`` are different ids for pycocotools, which then finds no object of an image.

    Args:
        path: The file, for messages.
        name: What the ids are, for messages.
        owners: The entries that are found by their ``id``, changed in place. Entries without one are left as they are.
        users: The entries that refer to them, changed in place.
        key: Where they do.

    Yields:
        What was mended, and what cannot be.
    """
    kinds = {type(entry.get('id')) for entry in owners} | {type(entry.get(key)) for entry in users} - {type(None)}
    if kinds <= {int, type(None)} or kinds - {type(None)} == {str}:
        return
    places = [(entry, 'id') for entry in owners] + [(entry, key) for entry in users]
    odd = [(entry, k) for entry, k in places if k in entry and type(entry[k]) is not int and entry[k] is not None]
    wrong = next(((entry, k) for entry, k in odd if integer(entry[k]) is None), None)
    if wrong:
        example = f'{wrong[1]}: {wrong[0][wrong[1]]!r}'
        yield Finding('error', path, f'{name} that are no integers, while others are', 'write all of them as integers', len(odd), example)
        return
    yield Finding('mended', path, f'{name} written as text or with a decimal point', 'they are read as integers', len(odd), _show(*odd[0]))
    for entry, k in odd:
        entry[k] = integer(entry[k])


def _show(entry: Entry, key: str) -> str:
    return f'{key}: {entry[key]!r}'
