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
from mmdysample.evaluation.image_counts import ImageCounts

from .records import read_note, read_step_times
from .results import COUNTS, Place, Result

NOTE = 'training.json'
LOG = 'output.log'
LOCK = '.lock'
ROUNDED = 0.006  # the metrics have two digits


class TrainingError(Exception):
    """A training or its test failed. The text names the log."""


@dataclass(frozen=True)
class Training:
    """A config with an upsampler and options, and the work folder for it.

    Args:
        config: The config file.
        upsampler: The value of ``--upsampler``.
        options: The values of ``--cfg-options``.
        folder: The work folder.
        digest: The :func:`digest` of the config with this upsampler and these options.
        best: True to test the best checkpoint of the evaluations, False to test the last one.
        label: The name to print; by default, the names of the config and of the folder.
        place: Where the result is kept beside the code; None to keep it in the work folder alone.
        counted: True if the test can write the counts of each image.
        gpus: Number of GPUs, each with the batch of the config.
    """

    config: Path
    upsampler: str
    options: tuple[str, ...]
    folder: Path
    digest: str
    best: bool = False
    label: str = ''
    place: Optional[Place] = None
    counted: bool = False
    gpus: int = 1

    @property
    def name(self) -> str:
        """The name to print."""
        return self.label or f'{self.config.stem} {self.folder.name}'

    @property
    def tested(self) -> str:
        """A pattern for the file of the checkpoint to test. ``last_checkpoint`` is a file that holds the path of a checkpoint."""
        return 'best_*.pth' if self.best else 'last_checkpoint'

    def checkpoint(self) -> Path:
        """Return the path of the checkpoint to test.

        Raises:
            TrainingError: The folder has no such checkpoint.
        """
        if self.best:
            found = max(self.folder.glob(self.tested), key=lambda file: file.stat().st_mtime, default=None)
        else:
            # Do not read last_checkpoint: a training that is killed just before writing it is complete when it resumes, and never does.
            found = next(iter(checkpoints(self.folder)), None)
        if found is None:
            name = self.tested if self.best else 'checkpoint'
            raise TrainingError(f'{self.folder} has no {name}, which train.py should have written: remove the folder to train again')
        return found

    def state(self) -> str:
        """Return progress and time left from the log, such as ``'iter 350/2000, 0:03:10 left'``; empty if the log has none yet."""
        log = self.folder / LOG
        if not log.is_file():
            return ''
        with log.open('rb') as file:
            file.seek(max(0, log.stat().st_size - 4096))
            tail = file.read().decode(errors='replace').rpartition('\n$ ')[2]  # the output of the last command
        lines = re.findall(r'(Epoch|Iter)\((train|test)\)\s+\[\s*([\d/]+)\].*?eta: ((?:\d+ days?, )?[\d:]+)', tail)
        if not lines:
            return ''
        unit, phase, count, left = lines[-1]
        return f'{phase if phase == "test" else unit.lower()} {count}, {left} left'

    def seconds_per_step(self) -> Optional[float]:
        """Return the median time in seconds of a training step with its data loading, from the logs of all runs; None without logs."""
        if self.kept is not None:
            return self.kept.seconds_per_step
        times = [time for log in self.folder.glob('*/vis_data/scalars.json') for time in read_step_times(log)]
        return statistics.median(times) if times else None

    def note(self) -> dict[str, Any]:
        """Return the content of the note; an empty dict before the training has begun.

        Raises:
            ValueError: The note cannot be read, is damaged or belongs to another config, or the folder holds other files.
        """
        path = self.folder / NOTE
        try:
            note = read_note(path)
            others = note is None and self.folder.exists() and (not self.folder.is_dir() or self._other_files())
        except OSError as error:
            raise ValueError(
                f'{error.filename or path} cannot be read ({error.strerror}): make it readable, or choose another --out'
            ) from None
        except ValueError as error:
            raise ValueError(f'{error}: remove {self.folder}, or choose another --out') from None
        if others:
            raise ValueError(f'{self.folder} holds other files: choose another --out')
        if note is not None and note.get('gpus', self.gpus) != self.gpus:
            raise ValueError(
                f'{self.folder} was trained on {note["gpus"]:.0f} GPUs: give as many to a row (--gpus, --gpus-per-row), or choose '
                'another --out'
            )
        if note is not None and note['digest'] != self.digest:
            raise ValueError(
                f'{self.folder} is from another version of {self.config} or was trained with other options: remove it, or choose another '
                '--out'
            )
        return note or {}

    def _other_files(self) -> bool:
        return bool({file.name for file in self.folder.iterdir()} - {LOCK, f'{NOTE}.tmp'})

    def write_note(self, **content: Any) -> None:
        """Write the note atomically, with the config, the upsampler, the digest and this content."""
        draft = self.folder / f'{NOTE}.tmp'
        about = {'config': str(self.config), 'upsampler': self.upsampler, 'digest': self.digest, 'gpus': self.gpus}
        note = {**about, **content}
        draft.write_text(json.dumps(note, indent=1), encoding='utf-8')
        draft.replace(self.folder / NOTE)

    @property
    def has_checkpoints(self) -> bool:
        """True if the folder has a checkpoint to resume from."""
        return bool(checkpoints(self.folder))

    @property
    def minutes(self) -> str:
        """The duration of the training in minutes; of a resumed one, ``>`` and the minutes since it resumed; ``-`` before it has ended."""
        note = self.note()
        return ('>' if note['resumed'] else '') + f'{note["seconds"] / 60:.1f}' if 'seconds' in note else '-'

    def metric(self, name: str) -> Optional[float]:
        """Return a metric of the test by the last part of its name; None before the test, or if the test had nothing to score."""
        found = {key.split('/')[-1]: value for key, value in (self.metrics or {}).items()}.get(name)
        # mmdet omits a metric if no detection reaches the score threshold, and gives -1 or NaN if there is no object to find.
        return None if found is None or math.isnan(found) or found < 0 else found

    @property
    def metrics(self) -> Optional[dict[str, float]]:
        """The metrics of the test by name; None before the training is complete."""
        return self.note().get('metrics') if self.kept is None else dict(self.kept.metrics)

    @property
    def kept(self) -> Optional[Result]:
        """The result that is kept beside the code, if there is one."""
        return self.place.read() if self.place is not None else None

    def keep(self) -> None:
        """Keep the result beside the code, if there is a place for it and the training is complete."""
        if self.place is not None and self.kept is None and self.metrics is not None:
            self.place.keep(self.folder, self.metrics, self.minutes, self.seconds_per_step())

    def counts(self) -> Optional[ImageCounts]:
        """Return the counts of each image of the test; None if the test wrote none.

        Raises:
            ValueError: The file is damaged, or is not of this test.
        """
        path = self.folder / COUNTS if self.kept is None or self.place is None else self.place.counts
        if not path.is_file():
            return None
        counts = ImageCounts.read(path)
        if any(abs(value - (self.metrics or {}).get(name, value)) > ROUNDED for name, value in counts.scores().items()):
            raise ValueError(f'{path} has other counts than those of the metrics of this test: restore it, or remove it to do without')
        return counts


def digest(config: Config, gpus: int = 1) -> str:
    """Return a short hash of the content of a config, and of the number of GPUs of its training, which multiply the batch."""
    content = config.to_dict() if gpus == 1 else {**config.to_dict(), 'gpus': gpus}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
