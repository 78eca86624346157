"""Keep a record of every training beside its checkpoints, and compare a later process with it."""

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

from mmengine.hooks import Hook

from ..files import whole_file
from .description import Described, describe

NAME = 'provenance.json'


class RecordRuns(Hook):
    """Write the record when a training starts or resumes, and when it is complete."""

    priority = 'LOWEST'  # the checkpoint is loaded

    def before_train(self, runner: Any) -> None:
        """Add a run, unless the training that resumes is complete already."""
        if runner.train_loop.iter < runner.train_loop.max_iters:
            write_record(runner, finished=False)

    def after_train(self, runner: Any) -> None:
        """Note that the training is complete."""
        write_record(runner, finished=True)


def write_record(runner: Any, finished: bool) -> None:
    """Write ``provenance.json`` in the work directory, in the first of several processes.

    It holds ``runs``, one for the start of a training and one for each time that it was resumed: what :func:`describe` returns, the time
    when the run ``started``, and the checkpoint that it resumed ``from`` or null. ``finished`` is the time when the training was complete,
    or null.

    An existing file that is damaged or of another kind is renamed to ``provenance.json.damaged``, and a line says so.

    Args:
        runner: mmengine's runner.
        finished: False when a run starts, after its checkpoint was loaded; True when the training is complete.

    Raises:
        OSError: It cannot be written.
    """
    if runner.rank != 0:
        return
    file, now = Path(runner.work_dir) / NAME, datetime.now(timezone.utc).isoformat(timespec='seconds')
    runs, earlier = _read_or_rename(file)
    if not finished or not runs:
        resumed = Path(runner._load_from).expanduser() if runner._resume and runner._load_from else None
        # Training may resume in another folder than that of the checkpoint, which has the runs so far.
        runs = _read_or_rename(resumed.parent / NAME, rename=False)[0] if resumed else []
        run = {**describe(runner), 'started': None if finished else now, 'from': resumed.name if resumed else None}
        runs = [*runs, run]
    with whole_file(file) as part:
        part.write(json.dumps({'runs': runs, 'finished': (earlier or now) if finished else None}, indent=2).encode())


def differences(folder: Path, runner: Any) -> list[str]:
    """Compare this process with the last run of a training.

    Args:
        folder: The folder of a checkpoint.
        runner: mmengine's runner. If it trains, also its training data and its number of processes are compared.

    Returns:
        Lines for the user, in the first of several processes. None if nothing differs, or if the folder has no record.
    """
    if runner.rank != 0:
        return []
    try:
        runs, _ = _read(folder / NAME)
    except ValueError as error:
        return [f'note: {error}, so nothing is compared with it']
    if not runs:
        return []
    now = describe(runner)
    trains = 'train' in now['data']
    if not trains:
        now['data'] = {'val': now['data'].get('test', [])}
    old, new = _environment(runs[-1], trains), _environment(now, trains)
    changed = [f'{name} {old[name]}, now {new[name]}' for name in new if old.get(name, new[name]) != new[name]]
    lines = [f'note: trained {"; ".join(changed)}'] if changed else []
    old, new = _data(runs[-1]), _data(now)
    return lines + [f'note: {name} {old[name]}, now on {new[name]}' for name in new if old.get(name, new[name]) != new[name]]


def _environment(run: Described, trains: bool) -> dict[str, str]:
    """Return what is known of the environment of a run, by the words that introduce it."""
    told = {f'with {name}': version for name, version in run['versions'].items()}
    told |= {'at revision': run['revision'], 'on': run['device']}
    if trains:
        told['in processes:'] = run['processes']
    return {name: str(value) for name, value in told.items() if value is not None}


def _data(run: Described) -> dict[str, str]:
    """Return the data of a run, by the words that introduce it."""
    told = {}
    for split, words in (('train', 'trained on'), ('val', 'during training evaluated on')):
        if datasets := run['data'].get(split):
            told[words] = ' and '.join(map(_told, datasets))
    return told


def _told(dataset: Described) -> str:
    labels = ', '.join(f'{label["name"]} {str(label["sha256"])[:8]}' for label in dataset['labels'])
    return f'{dataset["images"]} images' + (f' ({labels})' if labels else '')


def _read(file: Path) -> tuple[list[Described], Optional[str]]:
    """Return the runs of a record and the time when the training was complete; none if there is no such file.

    Raises:
        ValueError: The file is damaged or of another kind.
    """
    try:
        content = json.loads(file.read_bytes())
        runs, finished = content['runs'], content.get('finished')
        for run in runs:
            _environment(run, trains=True)
            _data(run)
    except FileNotFoundError:
        return [], None
    except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f'{file} cannot be read as the record of a training') from error
    return runs, finished if isinstance(finished, str) else None


def _read_or_rename(file: Path, rename: bool = True) -> tuple[list[Described], Optional[str]]:
    try:
        return _read(file)
    except ValueError as error:
        renamed = f'; it is now {file.replace(file.with_name(f"{NAME}.damaged")).name}' if rename else ''
        print(f'{error}{renamed}; a new record is begun')
        return [], None
