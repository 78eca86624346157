"""The names, the colours and the number of a user's classes."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np

FILE = 'classes.txt'
NO_CLASSES = ('backbone', 'rpn_head')  # parts of a model whose num_classes are not those of the data


def read_classes(folder: Path) -> Optional[tuple[str, ...]]:
    """Return the classes that a folder's ``classes.txt`` names, or None if there is no such file.

    The file has one name a line. Blank lines and lines that begin with ``#`` are passed over.

    Raises:
        ValueError: The file is not UTF-8 text, names no class, or names a class twice.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding='utf-8-sig')  # Windows' editors write a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is not text in UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8') from error
    lines = [line.strip() for line in text.splitlines()]
    return check_classes([line for line in lines if line and not line.startswith('#')], str(path))


def check_classes(names: Sequence[str], place: str) -> tuple[str, ...]:
    """Return the names of classes without the blanks around them.

    Args:
        names: The names.
        place: The file or the option that gives them, for error messages.

    Raises:
        ValueError: There is none, or one of them is empty or given twice.
    """
    stripped = tuple(str(name).strip() for name in names)
    if not all(stripped) or not stripped:
        raise ValueError(f'{place} names no class, or has an empty name: {", ".join(stripped) or "nothing"}')
    twice = [name for name, count in Counter(stripped).items() if count > 1]
    if twice:
        raise ValueError(f'{place} names the class {twice[0]} more than once')
    return stripped


def make_palette(count: int) -> list[tuple[int, ...]]:
    """Return a colour for each class, the same ones for the same number of classes."""
    return [tuple(colour) for colour in np.random.default_rng(0).integers(0, 256, (count, 3)).tolist()]


def set_counts(model: Any, counts: dict[str, int]) -> None:
    """Set the number of classes throughout a model's config.

    Args:
        model: The config of the model, changed in place.
        counts: The new ``num_classes``, ``num_things_classes`` and ``num_stuff_classes``. Every one of these keys is set, except in the
            backbone and in an RPN, which only tells objects from background. Equal weights of the classes in a loss (``class_weight``)
            are repeated or cut to the new number, and ``out_channels`` follows where it was the old number.

    Raises:
        ValueError: A loss weighs the old classes one by one.
    """
    _set(model, counts, (0, 0), 'model')


def _set(node: Any, counts: dict[str, int], change: tuple[int, int], path: str) -> None:
    if isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            _set(value, counts, change, f'{path}.{i}')
    if not isinstance(node, dict):
        return
    found = [key for key in counts if isinstance(node.get(key), int)]
    if found:  # mmdet's MaskFormer has one class for each of its things and stuff; other heads have num_classes
        change = sum(node[key] for key in found), sum(counts[key] for key in found)
    for key, value in node.items():
        if key in found:
            node[key] = counts[key]
        elif key == 'class_weight' and isinstance(value, (list, tuple)):
            node[key] = _weights(list(value), *change, f'{path}.{key}')
        elif key == 'out_channels' and 'num_classes' in found and value == change[0]:
            node[key] = change[1]
        elif key not in NO_CLASSES:
            _set(value, counts, change, f'{path}.{key}')


def _weights(weights: list[float], old: int, new: int, path: str) -> list[float]:
    background = len(weights) - old  # 1 where the loss also weighs the class of no object
    if not old or background not in (0, 1) or len(weights) == new + background:
        return weights
    if len(set(weights[:old])) > 1:
        raise ValueError(
            f'{path} weighs the {old} classes of the config one by one: give the {new + background} weights of your own classes with '
            f'--cfg-options "{path}=[...]", or equal ones with {path}=None'
        )
    return [*weights[:1] * new, *weights[old:]]
