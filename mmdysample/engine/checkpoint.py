"""Load checkpoints as data, so that no code in a checkpoint is executed."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from mmdysample.frameworks import require

from .damage import TRAINING, verify_checksums
from .errors import one_line
from .file_kinds import foreign_kind, is_mappable
from .loading import load
from .refusal import TRUST_FLAG

State = dict[str, Tensor]
ENDINGS = ('*.pth', '*.pt', '*.bin', '*.ckpt')


def _history_buffer_method(owner: type, name: str) -> Callable:
    """Return a method of ``HistoryBuffer``, in place of the ``getattr`` by which a pickled ``HistoryBuffer`` finds its statistics methods.

    ``getattr`` itself would let a file call any function of any allowed class.

    Raises:
        UnpicklingError: The owner is another class.
    """
    if owner is not HistoryBuffer:
        raise pickle.UnpicklingError(f'getattr on {owner!r}')
    return getattr(HistoryBuffer, name)


def _allowed_globals() -> list[Any]:
    """Return the classes and functions that the statistics in mmengine's checkpoints (of its message hub) consist of."""
    functions: dict[str, Any] = {'_reconstruct': np.empty(0).__reduce__()[0], 'scalar': np.float64(0).__reduce__()[0]}
    # numpy 2 renamed the module. Files of either version must load under either version.
    renamed = [(function, f'numpy.{core}.multiarray.{name}') for name, function in functions.items() for core in ('core', '_core')]
    # Numeric dtypes only: the elements of an object array could be of any class.
    dtypes = [type(np.dtype(name)) for name in ('float64', 'float32', 'float16', 'int64', 'int32', 'uint8', 'bool')]
    # As pairs with their names: onedl-mmengine allows the classes themselves while it loads a file, and afterwards takes them off the list.
    classes = [(cls, f'{cls.__module__}.{cls.__qualname__}') for cls in (HistoryBuffer, np.ndarray, np.dtype, *dtypes)]
    return [*classes, *renamed, (_history_buffer_method, 'builtins.getattr')]


def secure_loading(trust: bool = False) -> None:
    """Make every ``torch.load`` of this process refuse files that are damaged or hold more than data, also in mmengine, mmdet and mmseg.

    Without this call, mmengine 0.10.7 cannot load its own checkpoints, and onedl-mmengine loads any file.

    Args:
        trust: Load also files that hold more than data, which executes any code in them.

    Raises:
        ImportError: torch is older than 2.6.0.
    """
    require('torch', 'loading checkpoints safely')
    for name in ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'):
        os.environ.pop(name, None)
    if trust:
        os.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'] = '1'
    else:
        os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
        torch.serialization.add_safe_globals(_allowed_globals())
    torch.load = load  # the frameworks also load what they have downloaded, which nothing can check before


def check_checkpoint(path: Union[str, Path], to_resume: bool = False) -> None:
    """Check that a file is an undamaged checkpoint which :func:`secure_loading` allows to load.

    Args:
        path: The file. A URL is not checked here; the loader reads it later.
        to_resume: Whether training will resume from it, which needs a file with the state of the optimizer.

    Raises:
        ValueError: The file is missing, damaged, not a checkpoint or unsafe, or cannot be resumed from.
    """
    if '://' in str(path):
        if to_resume:
            raise ValueError(f'training resumes from a file, got the URL {path}: download it first')
        return
    path = Path(path)
    content = read_checkpoint(path)
    if not _holds_tensors(content.get('state_dict', content)):
        raise ValueError(f'{path} holds no state_dict of tensors, so it is not a checkpoint of a model{_found(path, content)}')
    # On resuming, mmengine 0.10.7 executes meta['config'] as Python. Its own checkpoints store the config as meta['cfg'].
    meta = content.get('meta')
    if to_resume and isinstance(meta, dict) and 'config' in meta and not _trusting():
        raise ValueError(f'{path} holds a config that resuming would execute; if you trust its author, add {TRUST_FLAG}')
    if to_resume and (lacking := _lacking_to_resume(content)):
        fault = 'holds only weights' if 'optimizer' in lacking else f"lacks {', '.join(lacking)}, which mmengine's checkpoints hold"
        raise ValueError(f'{path} {fault}, so training cannot resume from it; start from its weights: --cfg-options load_from={path}')


def read_checkpoint(path: Union[str, Path], mapped: bool = False) -> dict[Any, Any]:
    """Return the content of a file that ``torch.save`` has written.

    Args:
        path: The file. A leading ``~`` is the home folder, as for mmengine.
        mapped: Whether to leave the weights on disk until they are used. A weight that is damaged later is then not noticed.

    Raises:
        ValueError: The file is missing, damaged, of another kind or unsafe, or holds no dict.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        folder, told = (path, 'it is a folder, which') if path.is_dir() else (path.parent, 'that folder')
        nearby = [file.name for file in checkpoints(folder)]
        nearby = nearby or [file.name for ending in ENDINGS for file in sorted(folder.glob(ending))][:5]
        raise ValueError(f'there is no checkpoint {path}' + (f'; {told} holds {", ".join(sorted(nearby))}' if nearby else ''))
    verify_checksums(path)
    if kind := foreign_kind(path):
        raise ValueError(f'{path} is not a complete checkpoint: it is {kind}')
    content = load(path, map_location='cpu', mmap=mapped and is_mappable(path))
    if isinstance(content, nn.Module):
        raise ValueError(f'{path} holds a whole {type(content).__name__}, not its weights: save its state_dict() and give that file')
    if not isinstance(content, dict):
        raise ValueError(
            f'{path} holds no state_dict of tensors, so it is not a checkpoint of a model: it holds a {type(content).__name__}'
        )
    return content


def load_content(path: str) -> dict[Any, Any]:
    """Return the content of a checkpoint that was checked, with its weights still on disk; a URL is downloaded into mmengine's cache.

    Raises:
        ValueError: The URL cannot be downloaded, or its file is damaged, unsafe or no checkpoint.
    """
    if '://' not in path:
        return read_checkpoint(path, mapped=True)
    try:
        content = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    except ValueError as error:  # of the file in the cache
        raise ValueError(f'{path}: {one_line(error)}') from error
    except Exception as error:  # of the network or of the cache
        raise ValueError(f'{path} cannot be loaded: {type(error).__name__}: {one_line(error)[:300]}') from error
    if not isinstance(content, dict) or not _holds_tensors(content.get('state_dict', content)):
        raise ValueError(f'{path} holds no state_dict of tensors, so it is not a checkpoint of a model')
    return content


def find_weights(content: dict[Any, Any]) -> dict[str, State]:
    """Return the dicts of tensors in a checkpoint, by their keys: ``state_dict``, ``model``, ...; ``''`` for the checkpoint itself."""
    return {key: value for key, value in {'': content, **content}.items() if isinstance(key, str) and _holds_tensors(value)}


def how_to_save(path: Union[str, Path], key: str) -> str:
    """Return the command that saves the weights under a key of a file as a file of their own."""
    return f"python -c \"import torch; torch.save(torch.load('{path}')['{key}'], 'weights.pth')\""


def _found(path: Path, content: dict[Any, Any]) -> str:
    """Return what a file without a state_dict holds instead, to be appended to a message."""
    if 'param_groups' in content:
        return ': it holds the state of an optimizer'
    key = next((key for key in find_weights(content) if key), None)
    return f": its weights are under '{key}', where mmengine does not look; save them alone: {how_to_save(path, key)}" if key else ''


def _lacking_to_resume(content: dict[Any, Any]) -> list[str]:
    """Return the keys that mmengine reads when it resumes and that a checkpoint lacks. A file of mmcv 1 has no ``message_hub``."""
    meta = content.get('meta')
    lacking = [key for key in ('optimizer', 'message_hub') if key not in content]
    return lacking + [f'meta.{key}' for key in ('epoch', 'iter') if not isinstance(meta, dict) or key not in meta]


def _trusting() -> bool:
    return os.environ.get('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD') == '1'


def _holds_tensors(state: Any) -> bool:
    if not isinstance(state, dict) or not state:
        return False
    return all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items())


def checkpoints(folder: Path) -> list[Path]:
    """Return the ``epoch_*.pth`` and ``iter_*.pth`` checkpoints in a folder, latest first."""
    found = [(int(match[1]), path) for path in folder.glob('*.pth') if (match := TRAINING.fullmatch(path.stem))]
    return [path for _, path in sorted(found, reverse=True)]


def latest_complete(folder: Path) -> Optional[Path]:
    """Return the latest checkpoint that training can resume from, or None.

    It prints which checkpoints it skips, such as one that was only partly written when the process was killed.
    """
    for path in checkpoints(folder):
        try:
            check_checkpoint(path, to_resume=True)
        except ValueError as error:
            print(f'skipped: {one_line(error)}')
        else:
            return path
    return None
