"""Describe what a run depends on beside its config: versions, device, seed and data."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Optional

import torch
from mmengine.device import get_device
from torch.utils.data import Dataset

from mmdysample import version
from mmdysample.datasets.image_files import listing

PACKAGE = Path(version.__file__).parent
PACKAGES = ('mmdysample', 'torch', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'numpy')
BLOCK = 2**20  # bytes
Described = dict[str, Any]


def describe(runner: Any) -> Described:
    """Return what a run depends on beside its config. It holds no absolute path and no name of a user or a machine.

    Annotation files are read once per process: 450 MB take 0.3 s on a CPU with SHA instructions.

    Args:
        runner: mmengine's runner. The data of those loops is described that are built.

    Returns:
        - ``versions``: of Python and of the packages that this process has imported.
        - ``revision``: the git revision of this package if it is installed from a checkout of its own, or None. It ends in ``-dirty`` if
          a file that git tracks was changed.
        - ``seed`` and ``deterministic``.
        - ``device``: the name of the GPU, or ``CPU``; ``threads`` of the latter; the number of ``processes``.
        - ``data``: for ``train``, ``val`` and ``test`` a list of data sets, without their wrappers: ``type``, number of ``images``, and
          ``labels``, which are annotation files with the hash of their content and folders with the hash of their files' names and sizes.
    """
    kind = get_device()
    loops = {split: getattr(runner, f'_{split}_loop') for split in ('train', 'val', 'test')}  # the properties would build them
    return {
        'versions': {'python': platform.python_version(), **_versions()},
        'revision': _revision(),
        'seed': runner.seed,
        'deterministic': runner.deterministic,
        'device': torch.cuda.get_device_name() if kind == 'cuda' else kind.upper(),
        'threads': torch.get_num_threads() if kind == 'cpu' else None,
        'processes': runner.world_size,
        'data': {
            split: [_describe_dataset(dataset) for dataset in _leaves(loop.dataloader.dataset)]
            for split, loop in loops.items()
            if hasattr(loop, 'dataloader')
        },
    }


def _versions() -> dict[str, str]:
    """Return the versions of the packages that are imported. Both distributions of a framework have its import name."""
    found = {name: getattr(sys.modules.get(name), '__version__', None) for name in PACKAGES}
    return {name: str(version) for name, version in found.items() if version}


def _revision() -> Optional[str]:
    root = PACKAGE.resolve().parent
    # The environment of a git hook names another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith('GIT_')}

    def git(*arguments: str) -> str:
        command = ('git', '-C', str(root), *arguments)
        return subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        # A virtual environment may lie in the repository of something else.
        if Path(git('rev-parse', '--show-toplevel')).resolve() != root:
            return None
        return git('describe', '--always', '--exclude=*', '--abbrev=12', '--dirty')
    except (OSError, ValueError, subprocess.SubprocessError):  # no git, no repository, no commit, one of another user, or a slow disk
        return None


def _leaves(dataset: Any) -> Iterator[Any]:
    """Yield the data sets within any wrappers."""
    inner = [getattr(dataset, 'dataset', None), getattr(dataset, '_dataset', None), *(getattr(dataset, 'datasets', None) or ())]
    # mmengine's wrappers are no torch datasets.
    within = [part for part in inner if isinstance(part, Dataset) or hasattr(part, 'dataset') or hasattr(part, 'datasets')]
    for part in within:
        yield from _leaves(part)
    if not within:
        yield dataset


def _describe_dataset(dataset: Any) -> Described:
    prefixes = getattr(dataset, 'data_prefix', None) or {}
    paths = [getattr(dataset, 'ann_file', None), *(path for key, path in prefixes.items() if not key.startswith('img'))]
    root = str(getattr(dataset, 'data_root', None) or '')
    return {
        'type': type(dataset).__name__,
        'images': len(dataset) if hasattr(dataset, '__len__') else None,
        'labels': [_fingerprint(path, root) for path in paths if path and isinstance(path, str)],
    }


def _fingerprint(path: str, root: str) -> Described:
    """Return the name of a file or folder of labels, and what changes with its content. The hash of a URL is None."""
    parent = Path(root) if root and Path(root) in Path(path).parents else Path(path).parent
    name = Path(path).relative_to(parent).as_posix()
    if os.path.isdir(path):
        try:
            names = sorted(listing(Path(path)))
        except ValueError:  # a folder that may not be read is no reason not to train
            return {'name': name, 'sha256': None}
        sizes = {name: _size(os.path.join(path, name)) for name in names}
        content = json.dumps(sizes).encode()
        return {'name': name, 'files': len(sizes), 'sha256': hashlib.sha256(content).hexdigest()}
    if not os.path.isfile(path):
        return {'name': name, 'sha256': None}
    state = os.stat(path)
    return {'name': name, 'sha256': _hash_file(path, state.st_size, state.st_mtime_ns)}


def _size(path: str) -> Optional[int]:
    try:
        return os.stat(path).st_size
    except OSError:  # a link to a file that is not there
        return None


@lru_cache(maxsize=16)
def _hash_file(path: str, *_: int) -> str:
    found = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(BLOCK):
            found.update(block)
    return found.hexdigest()
