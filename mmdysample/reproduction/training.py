"""One training of a config with an upsampler, and what its work folder tells of it.

The folder holds the files that the tools write, the log of their processes and a note. The note names what is trained; later it also has
the time that took, and in the end the metrics. A training is complete when its note has metrics.
"""

import hashlib
import json
import math
import re
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config

from mmdysample.engine.checkpoint import checkpoints

NOTE = 'training.json'
LOG = 'output.log'
LOCK = '.lock'


class TrainingError(Exception):
    """A training failed, or its test did; its text says where to read why."""


@dataclass(frozen=True)
class Training:
    """A config with an upsampler.

    Args:
        config: The config file.
        upsampler: What ``--upsampler`` is given.
        options: What ``--cfg-options`` is given.
        folder: Its work folder.
        digest: Of the content of the config with all of this.
        best: Whether the best checkpoint of its evaluations is tested, or the last one.
        label: What people call it, if not by its config and folder.
    """

    config: Path
    upsampler: str
    options: tuple[str, ...]
    folder: Path
    digest: str
    best: bool = False
    label: str = ''

    @property
    def name(self) -> str:
        """What people call it."""
        return self.label or f'{self.config.stem} {self.folder.name}'

    @property
    def tested(self) -> str:
        """A pattern of the names of checkpoints to test; ``last_checkpoint`` is a file that names one."""
        return 'best_*.pth' if self.best else 'last_checkpoint'

    def checkpoint(self) -> Path:
        """The checkpoint to test.

        Raises:
            TrainingError: There is none.
        """
        if self.best:
            found = max(self.folder.glob(self.tested), key=lambda file: file.stat().st_mtime, default=None)
        else:
            # Not what last_checkpoint says: a training that was killed before it was written has nothing left to write in it.
            found = next(iter(checkpoints(self.folder)), None)
        if found is None:
            raise TrainingError(f'{self.folder} holds no {self.tested if self.best else "checkpoint"}, which train.py should have left')
        return found

    def state(self) -> str:
        """How far it has come, and the time left, as its log says; empty before it says so."""
        log = self.folder / LOG
        if not log.is_file():
            return ''
        with log.open('rb') as file:
            file.seek(max(0, log.stat().st_size - 4096))
            tail = file.read().decode(errors='replace').rpartition('\n$ ')[2]  # of the last command
        lines = re.findall(r'(Epoch|Iter)\((train|test)\)\s+\[\s*([\d/]+)\].*?eta: ((?:\d+ days?, )?[\d:]+)', tail)
        if not lines:
            return ''
        unit, phase, count, left = lines[-1]
        return f'{phase if phase == "test" else unit.lower()} {count}, {left} left'

    def seconds_per_step(self) -> Optional[float]:
        """The median time of a training step, with its data, as the logs of all its runs have it."""
        lines = [line for log in self.folder.glob('*/vis_data/scalars.json') for line in log.read_text().splitlines()]
        entries = [json.loads(line) for line in lines if line.endswith('}')]  # that of a killed run may end within a line
        times = [entry['time'] for entry in entries if 'loss' in entry and 'time' in entry]
        return statistics.median(times) if times else None

    def note(self) -> dict[str, Any]:
        """What is known of it: nothing before it has begun.

        Raises:
            ValueError: The folder holds something else.
        """
        path = self.folder / NOTE
        if path.is_file():
            try:
                note = json.loads(path.read_text())
                found = note['digest']
            except (ValueError, TypeError, KeyError):
                raise ValueError(f'{path} is damaged: remove {self.folder}, or choose another --out') from None
            if found != self.digest:
                raise ValueError(
                    f'{self.folder} is of another state of {self.config} or of other --cfg-options: remove it, or choose another --out'
                )
            return note
        if self.folder.exists() and (not self.folder.is_dir() or {file.name for file in self.folder.iterdir()} - {LOCK, f'{NOTE}.tmp'}):
            raise ValueError(f'{self.folder} holds something else: choose another --out')
        return {}

    def write_note(self, **content: Any) -> None:
        """Write what is known of it, whole or not at all."""
        draft = self.folder / f'{NOTE}.tmp'
        draft.write_text(json.dumps({'config': str(self.config), 'upsampler': self.upsampler, 'digest': self.digest, **content}, indent=1))
        draft.replace(self.folder / NOTE)

    @property
    def has_checkpoints(self) -> bool:
        """Whether there is something to resume from."""
        return bool(checkpoints(self.folder))

    @property
    def minutes(self) -> str:
        """How long the training took, since it was resumed if it was (``>``)."""
        note = self.note()
        return ('>' if note['resumed'] else '') + f'{note["seconds"] / 60:.1f}' if 'seconds' in note else '-'

    def metric(self, name: str) -> Optional[float]:
        """What the test found, by the last part of its name; None before that, and where there was nothing to be found."""
        found = {key.split('/')[-1]: value for key, value in (self.metrics or {}).items()}.get(name)
        # mmdet finds nothing where no detection reaches the score threshold, and -1 or NaN where there is nothing to be found.
        return None if found is None or math.isnan(found) or found < 0 else found

    @property
    def metrics(self) -> Optional[dict[str, float]]:
        """What the test found, once all is done."""
        return self.note().get('metrics')


def digest(config: Config) -> str:
    """A short text that is another for another content."""
    return hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True, default=str).encode()).hexdigest()[:16]
