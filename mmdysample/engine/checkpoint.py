"""Checkpoints are data: nothing that stands in one is executed."""

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
from packaging.version import Version
from torch import nn

from .errors import one_line

TRUST_FLAG = '--trust-checkpoint'


def _history_buffer_method(owner: type, name: str) -> Callable:
    """Stand in for ``getattr``, through which a ``HistoryBuffer`` pickles its statistics methods.

    ``getattr`` itself would let a file reach any function of any allowed class.
    """
    if owner is not HistoryBuffer:
        raise pickle.UnpicklingError(f'getattr on {owner!r}')
    return getattr(HistoryBuffer, name)


def _allowed_globals() -> list[Any]:
    """What mmengine's checkpoints hold beside tensors: the statistics of its message hub."""
    functions: dict[str, Any] = {'_reconstruct': np.empty(0).__reduce__()[0], 'scalar': np.float64(0).__reduce__()[0]}
    # numpy 2 renamed the module; files of either version shall load under either.
    renamed = [(function, f'numpy.{core}.multiarray.{name}') for name, function in functions.items() for core in ('core', '_core')]
    # Plain numbers of any width; not object_, whose elements could be anything.
    dtypes = [type(np.dtype(name)) for name in ('float64', 'float32', 'float16', 'int64', 'int32', 'uint8', 'bool')]
    return [HistoryBuffer, np.ndarray, np.dtype, *dtypes, *renamed, (_history_buffer_method, 'builtins.getattr')]


def secure_loading(trust: bool = False) -> None:
    """Make every ``torch.load`` of this process refuse what is not data, in mmengine and the frameworks too.

    Args:
        trust: Let everything load, and so run any code that a file carries. Without it, mmengine 0.10.7 could not read its own
            checkpoints with torch >= 2.6, and its fork would read anything.

    Raises:
        ImportError: torch is too old to be told what to allow.
    """
    if Version(torch.__version__) < Version('2.6'):
        raise ImportError(f'loading checkpoints safely needs torch >= 2.6, got {torch.__version__}. Run: pip install -U torch')
    for name in ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'):
        os.environ.pop(name, None)
    if trust:
        os.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'] = '1'
    else:
        os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
        torch.serialization.add_safe_globals(_allowed_globals())


def check_checkpoint(path: Union[str, Path], to_resume: bool = False) -> None:
    """Check that a file is a whole checkpoint and can be loaded, under what :func:`secure_loading` allows.

    Args:
        path: The file; an address is left to the loader.
        to_resume: Whether training shall go on from it, which needs the state of the optimizer.

    Raises:
        ValueError: It is missing, broken, foreign or unsafe.
    """
    if '://' in str(path):
        if to_resume:
            raise ValueError(f'training resumes from a file, got the address {path}: download it first')
        return
    path = Path(path)
    if not path.is_file():
        nearby = sorted(checkpoints(path.parent))
        raise ValueError(f'there is no checkpoint {path}' + (f'; that folder holds {", ".join(p.name for p in nearby)}' if nearby else ''))
    try:
        content = torch.load(path, map_location='cpu')
    except pickle.UnpicklingError as error:
        raise ValueError(_refusal(path, error)) from error
    except Exception as error:  # a broken archive fails in as many ways as there are bytes
        raise ValueError(f'{path} is no complete checkpoint: it is cut short, or another kind of file') from error
    if not isinstance(content, dict) or not _holds_tensors(content.get('state_dict', content)):
        raise ValueError(f'{path} holds no state_dict of tensors, so it is no checkpoint of a model')
    # mmengine 0.10.7 would run this text as a config; its own checkpoints keep theirs under another name.
    if to_resume and 'config' in (content.get('meta') or {}) and not _trusting():
        raise ValueError(f'{path} holds a config that resuming would execute; if you trust who made the file, add {TRUST_FLAG}')
    if to_resume and not {'optimizer', 'meta'} <= content.keys():
        raise ValueError(f'{path} holds weights alone, which training cannot resume from; start from them: --cfg-options load_from={path}')


def check_fit(path: str, model: nn.Module, to_resume: bool = False) -> Optional[str]:
    """Check that a checkpoint is one of a model; the loader itself would go on with whatever matches.

    Args:
        path: The file, which :func:`check_checkpoint` has passed; an address is left to the loader.
        model: The model.
        to_resume: Whether training shall go on from it, which needs exactly the model's weights.

    Returns:
        What the user should know: which weights the file lacks, and which are left over.

    Raises:
        ValueError: Less than three quarters of the model's weights are in the file with their shapes, or, to resume, not just all of them.
    """
    if '://' in path:
        return None
    content = torch.load(path, map_location='cpu')
    # As mmengine's loader has it: on several GPUs the model is wrapped, and older files were saved from the wrapper.
    inner: Any = model.module if is_model_wrapper(model) else model
    state = {name.removeprefix('module.'): value for name, value in content.get('state_dict', content).items()}
    expected = {name: value.shape for name, value in inner.state_dict().items()}
    fitting = {name: value for name, value in state.items() if value.shape == expected.get(name, value.shape)}
    # Loaded into a copy: modules have rules of their own for older files, such as DySample's for the bias of its scope.
    lacking, surplus = copy.deepcopy(inner).load_state_dict(fitting, strict=False)
    if to_resume and (lacking or surplus):
        raise ValueError(
            f'{path} is of another model (they differ in {(lacking or surplus)[0]}), so training cannot resume from it; '
            'choose another --work-dir'
        )
    if 4 * len(lacking) > len(expected):  # models with the same backbone share up to three quarters
        found = len(expected) - len(lacking)
        raise ValueError(f"{path} is no checkpoint of this model: it holds {found} of the model's {len(expected)} weights")
    if not lacking and not surplus:
        return None
    warning = f'warning: {path} is not quite of this model'
    if lacking:
        warning += f'; it lacks {len(lacking)} of the {len(expected)} weights, which stayed random: {", ".join(lacking[:5])}'
    if surplus:
        warning += f'; {len(surplus)} of its weights are left over: {", ".join(surplus[:5])}'
    return f'{warning}; the config that was saved beside it fits'


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
        return f'{path} is no complete checkpoint: it is cut short, or another kind of file'
    allowed = {entry[1] if isinstance(entry, tuple) else f'{entry.__module__}.{entry.__qualname__}' for entry in _allowed_globals()}
    # Where the list of names finds nothing, torch refused an object of a class: its own words say which.
    told = re.search(r'Unpickler error:\s*(.+?)\s*(?:\n\n|$)', str(error), flags=re.DOTALL)
    culprits = sorted(set(unsafe) - allowed) or [' '.join((told[1] if told else str(error)).split())[:200]]
    return (
        f'{path} holds more than data: {", ".join(culprits)}. Loading that could run code of whoever made the file; '
        f'if you trust them, add {TRUST_FLAG}'
    )


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a training in a folder, the furthest first."""
    names = re.compile(r'(?:epoch|iter)_(\d+)')
    found = [(int(match[1]), path) for path in folder.glob('*.pth') if (match := names.fullmatch(path.stem))]
    return [path for _, path in sorted(found, reverse=True)]


def latest_complete(folder: Path) -> Optional[Path]:
    """The furthest checkpoint from which training can resume: one that was being written when the process died is passed over."""
    for path in checkpoints(folder):
        try:
            check_checkpoint(path, to_resume=True)
        except ValueError as error:
            print(f'passed over: {one_line(error)}')
        else:
            return path
    return None
