"""Verify the checksums in a file of weights. ``torch.save`` writes them, and ``torch.load`` ignores them."""

import re
import zipfile
from functools import cache
from pathlib import Path

import torch

from .file_kinds import is_archive

TRAINING = re.compile(r'(?:epoch|iter)_(\d+)')  # the names of the checkpoints of a training, without .pth
CONTENTS = 'its list of contents'
FOLDER = 0x10  # the attribute of folders, in whose place torch reads nothing


def verify_checksums(path: Path) -> bool:
    """Check that the content of a file is what was saved. The checksums of a file are computed once in a process.

    Args:
        path: A file that exists.

    Returns:
        False if the file has no checksums, as in torch's old format. Then nothing was checked.

    Raises:
        ValueError: The content differs. The message names the damaged part and the remedy.
        OSError: The file cannot be opened.
    """
    status = path.stat()
    has_checksums, damaged = _examine(path.resolve(), status.st_size, status.st_mtime_ns)
    if damaged:
        raise ValueError(f'{path} {describe(path, damaged)}')
    return has_checksums


def describe(path: Path, damaged: str = CONTENTS) -> str:
    """Return which part of a file is damaged, and the remedy."""
    return f'is damaged ({damaged}): {remedy(path)}'


def remedy(path: Path) -> str:
    """Return how to replace a file whose content is not what was saved."""
    if is_download(path):
        return 'delete it, and it is downloaded again'
    return 'copy it again, or use an older checkpoint' if TRAINING.fullmatch(path.stem) else 'copy or download it again'


def is_download(path: Path) -> bool:
    """Return True if a file is in the cache, to which the weights of a URL are downloaded once."""
    return Path(torch.hub.get_dir()).resolve() in path.resolve().parents


@cache
def _examine(path: Path, size: int, changed: int) -> tuple[bool, str]:
    """Return whether a file of this size and time of change has checksums, and its first damaged part or an empty string."""
    if not is_archive(path):
        return False, ''
    try:
        archive = zipfile.ZipFile(path)
    except Exception:  # damage can raise any exception
        return True, CONTENTS
    with archive:
        members = archive.infolist()
        if not any(member.CRC for member in members if member.file_size):  # torch.serialization.set_crc32_options(False)
            return False, ''
        return True, next((member.filename for member in members if _is_damaged(archive, member)), '')


def _is_damaged(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    if member.external_attr & FOLDER and not member.is_dir():
        return True
    try:
        with archive.open(member) as file:
            while file.read(1 << 20):
                pass
    except Exception:  # as above; a wrong checksum is one
        return True
    return False
