"""Keep a record of every training beside its checkpoints, and compare a later process with it."""

import json
import re
from datetime import datetime, timezone
from math import inf
from pathlib import Path
from typing import Any, Optional

from mmengine.hooks import Hook

from ..files import whole_file
from .description import Described, describe

NAME = 'provenance.json'
STEP = re.compile(r'(?:.*_)?(epoch|iter)_(\d+)\.pth')  # the names of the checkpoints of a training, with best_mIoU_iter_400.pth


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

    An existing file that is damaged or of another kind is renamed to ``provenance.json.damaged``, and a line says so. One that cannot be
    read is left as it is: a line says so, and the run is not recorded.

    Args:
        runner: mmengine's runner.
        finished: False when a run starts, after its checkpoint was loaded; True when the training is complete.

    Raises:
        OSError: It cannot be written.
    """
    if runner.rank != 0:
        return
    file, now = Path(runner.work_dir) / NAME, datetime.now(timezone.utc).isoformat(timespec='seconds')
    found = _read_or_rename(file)
    if found is None:
        return
    runs, earlier = found
    if not finished or not runs:
        resumed = Path(runner._load_from).expanduser() if runner._resume and runner._load_from else None
        # Training may resume in another folder than that of the checkpoint, which has the runs so far.
        runs = _read_history(resumed.parent / NAME) if resumed else []
        run = {**describe(runner), 'started': None if finished else now, 'from': resumed.name if resumed else None}
        runs = [*runs, run]
    with whole_file(file) as part:
        part.write(json.dumps({'runs': runs, 'finished': (earlier or now) if finished else None}, indent=2).encode())


def differences(checkpoint: Path, runner: Any) -> list[str]:
    """Compare this process with the run that saved a checkpoint, or with the last one of its folder if the record does not tell which.

    Args:
        checkpoint: The file. A leading ``~`` is the home folder, as for mmengine.
        runner: mmengine's runner. If it trains, also its training data and its number of processes are compared.

    Returns:
        Lines for the user, in the first of several processes. None if nothing differs, or if the folder has no record.
    """
    if runner.rank != 0:
        return []
    try:
        runs, _ = _read(checkpoint.expanduser().parent / NAME)
    except (ValueError, OSError) as error:
        return [f'note: {error}, so nothing is compared with it']
    if not runs:
        return []
    maker = _find_maker(runs, checkpoint)
    run, note = (runs[-1], 'note: in the last run,') if maker is None else (maker, 'note:')
    now = describe(runner)
    trains = 'train' in now['data']
    if not trains:
        now['data'] = {'val': now['data'].get('test', [])}
    old, new = _environment(run, trains), _environment(now, trains)
    changed = [f'{name} {old[name]}, now {new[name]}' for name in new if old.get(name, new[name]) != new[name]]
    lines = [f'{note} trained {"; ".join(changed)}'] if changed else []
    old, new = _data(run), _data(now)
    return lines + [f'{note} {name} {old[name]}, now on {new[name]}' for name in new if old.get(name, new[name]) != new[name]]


def _find_maker(runs: list[Described], checkpoint: Path) -> Optional[Described]:
    """Return the run that saved a checkpoint: the last one that began before it, by the numbers in the names. None if they do not tell.

    An earlier run may have left a later checkpoint, which is older than the start of the run that began before it.
    """
    kind, number = _step(checkpoint.name)
    file = checkpoint.expanduser()
    modified = file.stat().st_mtime if file.is_file() else inf
    for run in reversed(runs):
        if _started(run) > modified:
            continue
        begun = (kind, 0) if run['from'] is None else _step(run['from'])
        if not kind or begun[0] != kind:
            return None
        if begun[1] < number:
            return run
    return None


def _started(run: Described) -> float:
    return datetime.fromisoformat(run['started']).timestamp() if run.get('started') else 0.0


def _step(name: str) -> tuple[str, int]:
    """Return how far training was by the name of a checkpoint, such as ``('iter', 400)``; ``('', 0)`` for another name."""
    found = STEP.fullmatch(name)
    return (found[1], int(found[2])) if found else ('', 0)


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
        OSError: It cannot be read, so nothing is known of its content.
    """
    try:
        content = json.loads(file.read_bytes())
        runs, finished = content['runs'], content.get('finished')
        for run in runs:
            _environment(run, trains=True)
            _data(run)
            _step(run['from'] or '')
            _started(run)
    except FileNotFoundError:
        return [], None
    except OSError as error:
        raise OSError(f'{file} cannot be read ({error.strerror})') from error
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f'{file} cannot be read as the record of a training') from error
    return runs, finished if isinstance(finished, str) else None


def _read_or_rename(file: Path) -> Optional[tuple[list[Described], Optional[str]]]:
    """Read the record of the work directory. A damaged one is renamed; None if it cannot be read, and must not be overwritten."""
    try:
        return _read(file)
    except OSError as error:
        print(f'note: {error}, so this run is not recorded: make the file readable, or move it away')
        return None
    except ValueError as error:
        renamed = file.replace(file.with_name(f'{NAME}.damaged'))
        print(f'{error}; it is now {renamed.name}; a new record is begun')
        return [], None


def _read_history(file: Path) -> list[Described]:
    """Return the runs in the record beside the checkpoint that a training resumes from, which may be in another folder."""
    try:
        return _read(file)[0]
    except (ValueError, OSError) as error:
        print(f'{error}; a new record is begun')
        return []
