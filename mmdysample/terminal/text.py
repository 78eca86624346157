"""Shorten text for messages of one line."""

from collections.abc import Collection
from itertools import islice


def short(names: Collection[str]) -> str:
    """Return the first five names, and how many there are if there are more."""
    return ', '.join(islice(names, 5)) + (f', ... ({len(names)})' if len(names) > 5 else '')
