"""Load checkpoints as data, so that no code in a checkpoint is executed."""

import copy
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import is_model_wrapper
from torch import nn

from mmdysample.frameworks import require

from .errors import one_line

TRUST_FLAG = '--trust-checkpoint'


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
    """Make every ``torch.load`` of this process refuse files that hold more than data, also within mmengine, mmdet and mmseg.

    Without this call, mmengine 0.10.7 cannot load its own checkpoints, and onedl-mmengine loads any file.

    Args:
        trust: Load every file, which executes any code in it.

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


def check_checkpoint(path: Union[str, Path], to_resume: bool = False) -> None:
    """Check that a file is a complete checkpoint which :func:`secure_loading` allows to load.

    Args:
        path: The file. A URL is not checked here; the loader reads it later.
        to_resume: Whether training will resume from it, which needs a file with the state of the optimizer.

    Raises:
        ValueError: The file is missing, incomplete, not a checkpoint or unsafe, or cannot be resumed from.
    """
    if '://' in str(path):
        if to_resume:
            raise ValueError(f'training resumes from a file, got the URL {path}: download it first')
        return
    path = Path(path)
    if not path.is_file():
        nearby = sorted(checkpoints(path.parent))
        raise ValueError(f'there is no checkpoint {path}' + (f'; that folder holds {", ".join(p.name for p in nearby)}' if nearby else ''))
    try:
        content = torch.load(path, map_location='cpu')
    except pickle.UnpicklingError as error:
        raise ValueError(_refusal(path, error)) from error
    except Exception as error:  # a damaged archive can raise any exception
        raise ValueError(f'{path} is not a complete checkpoint: it is truncated, or another kind of file') from error
    if not isinstance(content, dict) or not _holds_tensors(content.get('state_dict', content)):
        raise ValueError(f'{path} holds no state_dict of tensors, so it is not a checkpoint of a model')
    # On resuming, mmengine 0.10.7 executes meta['config'] as Python. Its own checkpoints store the config as meta['cfg'].
    if to_resume and 'config' in (content.get('meta') or {}) and not _trusting():
        raise ValueError(f'{path} holds a config that resuming would execute; if you trust its author, add {TRUST_FLAG}')
    if to_resume and not {'optimizer', 'meta'} <= content.keys():
        raise ValueError(
            f'{path} holds only weights, and training cannot resume from those; start from them: --cfg-options load_from={path}'
        )


def check_fit(path: str, model: nn.Module, to_resume: bool = False) -> Optional[str]:
    """Check that a checkpoint fits a model. mmengine's loader does not: it loads the weights that match and goes on.

    Args:
        path: The file, already checked by :func:`check_checkpoint`. A URL is not checked.
        model: The model.
        to_resume: Whether training will resume from it, which needs exactly the model's weights.

    Returns:
        A warning that names the weights which the file lacks and those which the model lacks; None if there are none.

    Raises:
        ValueError: The file holds less than three quarters of the model's weights, by name and shape; or, with ``to_resume``, its weights
            are not exactly those of the model.
    """
    if '://' in path:
        return None
    content = torch.load(path, map_location='cpu')
    # As in mmengine's loader: on several GPUs the model is wrapped, and older files were saved with the prefix of the wrapper.
    inner: Any = model.module if is_model_wrapper(model) else model
    state = {name.removeprefix('module.'): value for name, value in content.get('state_dict', content).items()}
    expected = {name: value.shape for name, value in inner.state_dict().items()}
    fitting = {name: value for name, value in state.items() if value.shape == expected.get(name, value.shape)}
    # Load into a copy, because modules convert older files while loading, as DySample does with scope.bias.
    lacking, surplus = copy.deepcopy(inner).load_state_dict(fitting, strict=False)
    if to_resume and (lacking or surplus):
        raise ValueError(
            f'{path} belongs to another model (they differ in {(lacking or surplus)[0]}), so training cannot resume from it; '
            'choose another --work-dir'
        )
    if 4 * len(lacking) > len(expected):  # different models with the same backbone share up to three quarters of their weights
        found = len(expected) - len(lacking)
        raise ValueError(f"{path} is not a checkpoint of this model: it holds {found} of the model's {len(expected)} weights")
    if not lacking and not surplus:
        return None
    warning = f'warning: {path} does not fit this model exactly'
    if lacking:
        warning += f'; it lacks {len(lacking)} of the {len(expected)} weights, which keep their random values: {", ".join(lacking[:5])}'
    if surplus:
        warning += f'; {len(surplus)} of its weights are not in the model: {", ".join(surplus[:5])}'
    return f'{warning}; use the config that was saved in the same folder'


def _trusting() -> bool:
    return os.environ.get('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD') == '1'


def _holds_tensors(state: Any) -> bool:
    if not isinstance(state, dict) or not state:
        return False
    return all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items())


def _refusal(path: Path, error: Exception) -> str:
    try:
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # not even an archive
        return f'{path} is not a complete checkpoint: it is truncated, or another kind of file'
    allowed = {entry[1] if isinstance(entry, tuple) else f'{entry.__module__}.{entry.__qualname__}' for entry in _allowed_globals()}
    # If torch lists no unsafe names, it refused an object instead. Its message then names the class.
    told = re.search(r'Unpickler error:\s*(.+?)\s*(?:\n\n|$)', str(error), flags=re.DOTALL)
    culprits = sorted(set(unsafe) - allowed) or [' '.join((told[1] if told else str(error)).split())[:200]]
    return (
        f'{path} holds more than data: {", ".join(culprits)}. Loading it could run code; '
        f'if you trust the author of the file, add {TRUST_FLAG}'
    )


def checkpoints(folder: Path) -> list[Path]:
    """Return the ``epoch_*.pth`` and ``iter_*.pth`` checkpoints in a folder, latest first."""
    names = re.compile(r'(?:epoch|iter)_(\d+)')
    found = [(int(match[1]), path) for path in folder.glob('*.pth') if (match := names.fullmatch(path.stem))]
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
