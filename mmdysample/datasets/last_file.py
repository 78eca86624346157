"""The file that each process has loaded last, which can still be read when the process has crashed.

A broken mask can crash pycocotools, and a huge image can exhaust the memory: then a worker of a data loader dies without an exception, and
torch names only its process id.
"""

import mmap
import os
from typing import Optional

SLOTS, SIZE = 64, 1024  # bytes of a slot: a process id and a path
# Shared with the processes that are forked from this one. Spawned processes have a memory of their own, so nothing is known of them.
_memory = mmap.mmap(-1, SLOTS * SIZE)


def remember(path: str) -> None:
    """Remember the file that this process is about to load. It takes 1 µs."""
    record = f'{os.getpid()} {path}'.encode(errors='surrogateescape')[: SIZE - 1] + b'\0'
    start = os.getpid() % SLOTS * SIZE
    _memory[start : start + len(record)] = record


def last_file(pid: int) -> Optional[str]:
    """Return the file that a process has loaded last, or None if that is not known."""
    start = pid % SLOTS * SIZE
    owner, _, path = _memory[start : start + SIZE].partition(b'\0')[0].partition(b' ')
    return os.fsdecode(path) if owner == str(pid).encode() else None
