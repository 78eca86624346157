"""Read the JSON files in the folder of a training, which may be damaged, such as by a full disk."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional


def read_note(path: Path) -> Optional[dict[str, Any]]:
    """Return the content of a note; None if there is no file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is damaged.
    """
    try:
        note = _parse(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):  # in place of the folder, there may be a file
        return None
    except IsADirectoryError:
        note = None
    if not _is_note(note):
        raise ValueError(f'{path} is damaged')
    return note


def _is_note(note: Any) -> bool:
    if not isinstance(note, dict) or not isinstance(note.get('digest'), str):
        return False
    if not isinstance(note.get('gpus', 1.0), float):
        return False
    if 'seconds' not in note:
        return 'metrics' not in note
    seconds, metrics = note['seconds'], note.get('metrics', {})
    if not isinstance(seconds, float) or not 0 <= seconds < math.inf or not isinstance(note.get('resumed'), bool):
        return False
    return isinstance(metrics, dict) and all(isinstance(value, float) for value in metrics.values())


def read_metrics(path: Path) -> Optional[dict[str, float]]:
    """Return the numbers in a file of metrics by name; None if it is damaged or cannot be read."""
    try:
        content = _parse(path.read_bytes())
    except OSError:
        return None
    return {name: value for name, value in content.items() if isinstance(value, float)} if isinstance(content, dict) else None


def read_step_times(path: Path) -> Iterator[float]:
    """Yield the times in seconds of the training steps in a log of mmengine; none if it cannot be read.

    A line may be damaged: a killed run may end within one.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        entry = _parse(line)
        if isinstance(entry, dict) and 'loss' in entry and isinstance(entry.get('time'), float) and 0 < entry['time'] < math.inf:
            yield entry['time']


def _parse(text: bytes) -> Any:
    """Parse JSON. All numbers become floats, which include NaN and infinity; damaged text becomes None."""
    try:
        return json.loads(text, parse_int=float)
    except (ValueError, RecursionError):
        return None
