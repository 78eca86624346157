"""Load files of weights with torch. Damaged files and files that hold more than data are refused in one line."""

import os
from functools import cache, wraps
from pathlib import Path
from typing import Any

import torch

from .damage import describe, is_download, remedy, verify_checksums
from .errors import one_line
from .file_kinds import foreign_kind, is_archive, is_old_torch
from .pickles import names_beside_data, read_pickles
from .refusal import if_trusted, refused_by_torch

torch_load = torch.load
SAVE_AGAIN = 'save it again as torch.save does by default, in protocol 2'


@wraps(torch_load)
def load(f: Any, *args: Any, **kwargs: Any) -> Any:
    """Load a file as ``torch.load`` does, with the same arguments, after its checksums were verified.

    The first time that a file without checksums is loaded, a line says so.

    Raises:
        ValueError: The file is damaged, incomplete or of another kind, or torch refuses what it holds.
        OSError: It cannot be opened.
    """
    if not isinstance(f, (str, os.PathLike)) or not os.path.isfile(f):
        return torch_load(f, *args, **kwargs)
    path = Path(f)
    has_checksums = verify_checksums(path)
    try:
        content = torch_load(f, *args, **kwargs)
    except Exception as error:  # an incomplete file can raise any exception
        raise ValueError(f'{path} {_fault(path, error)}') from error
    if not has_checksums:
        _warn(path)
    return content


@cache
def _warn(path: Path) -> None:
    if os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) == '0':
        why = "is in torch's old format, which has" if is_old_torch(path) else 'was saved with'
        print(f'note: {path} {why} no checksums, so damage to its weights cannot be noticed')


def _fault(path: Path, error: Exception) -> str:
    """Return why a file cannot be loaded."""
    if kind := foreign_kind(path):
        return f'is not a complete checkpoint: it is {kind}' + (f'; {remedy(path)}' if is_download(path) else '')
    if not _is_complete(path, error):
        return f'is not a complete checkpoint: it is truncated, or another kind of file; {remedy(path)}'
    if 'PytorchStreamReader' in str(error):  # the checksums are right, and what they do not cover is wrong
        return describe(path)
    names, protocol, _ = read_pickles(path)
    culprits = names_beside_data(names)
    if not culprits and protocol == 0:
        return f'holds data in pickle protocol 0, which torch cannot load: {SAVE_AGAIN}'
    refused = refused_by_torch(str(error))
    if not refused:
        return f'cannot be loaded: {type(error).__name__}: {one_line(error)[:300]}'
    if not culprits and protocol != 2 and refused.startswith('Unsupported operand'):
        return f'holds data in pickle protocol {protocol}, which torch does not load safely: {SAVE_AGAIN}. {if_trusted()}'
    culprits = culprits or [refused]
    more = f' and {len(culprits) - 5} more' if len(culprits) > 5 else ''
    whole = any(name.startswith('torch.nn.modules.') and '.loss.' not in name for name in culprits)
    model = '; it seems to be a whole model: a file of its state_dict() would be data' if whole else ''
    return f'holds more than data: {", ".join(culprits[:5])}{more}. {if_trusted()}{model}'


def _is_complete(path: Path, error: Exception) -> bool:
    if is_old_torch(path):
        return read_pickles(path).are_whole and 'unexpected EOF' not in str(error)
    return is_archive(path)
