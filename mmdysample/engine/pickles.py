"""Read which classes and functions the pickles in a file of weights name. Nothing is unpickled, so nothing is executed."""

import io
import pickletools
import re
import zipfile
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, Optional

import torch

from .file_kinds import is_old_torch

OLD_PICKLES = 5  # in a file of torch's old format, before the weights
# What mmengine's own checkpoints name in protocols other than 2, in which torch knows no names.
DATA = re.compile(
    r'builtins\.object|copyreg\._reconstructor|numpy\._?core\.numeric\._frombuffer|mmengine\.logging\.history_buffer\.HistoryBuffer\.\w+'
)


class Pickles(NamedTuple):
    """What the pickles of a file consist of."""

    names: frozenset[tuple[str, str]]  # modules, and the names of classes and functions in them
    protocol: int
    are_whole: bool  # False if the file ends within them, or they are none


def read_pickles(path: Path) -> Pickles:
    """Read the names in a complete file that ``torch.save`` has written, in any of its formats and protocols.

    Raises:
        OSError: It cannot be opened.
    """
    if is_old_torch(path):
        with path.open('rb') as file:
            return _read(file, OLD_PICKLES)
    with zipfile.ZipFile(path) as archive:
        member = next(member for member in archive.infolist() if f'/{member.filename}'.endswith('/data.pkl'))
        member.CRC = None  # type: ignore[assignment]  # it may have none, and is verified elsewhere
        with archive.open(member) as data:
            return _read(data, 1)


def names_beside_data(names: Iterable[tuple[str, str]]) -> list[str]:
    """Return those names that ``torch.load`` does not know as data, such as ``'argparse.Namespace'``."""
    lines = [f'c{module}\n{name}\n' for module, name in names if '\n' not in module + name]
    # torch answers for files in its newer format and protocol 2, so give it the names in such a file.
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('names/version', '3\n')
        archive.writestr('names/data.pkl', b'\x80\x02' + ''.join(lines).encode('utf-8', 'replace') + b'.')
    file.seek(0)
    unknown = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    unknown += [f'{module}.{name}' for module, name in names if '\n' in module + name]  # in no file of protocol 2
    return sorted(name if name.isprintable() else ascii(name) for name in unknown if not DATA.fullmatch(name))


def _read(file: IO[bytes], count: int) -> Pickles:
    names: set[tuple[str, str]] = set()
    protocol = 0
    try:
        for _ in range(count):
            opcodes = []
            for opcode, arg, _ in pickletools.genops(file):
                opcodes.append((opcode.name, arg))
                protocol = max(protocol, int(arg or 0) if opcode.name == 'PROTO' else opcode.proto)
            names.update(_names(opcodes))
    except Exception:  # whatever the next bytes look like
        return Pickles(frozenset(names), protocol, are_whole=False)
    return Pickles(frozenset(names), protocol, are_whole=True)


def _names(opcodes: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the names in a pickle. From protocol 4 on, they are strings on the stack, which may lie in the memo."""
    memo: dict[int, Optional[str]] = {}
    top: deque[Optional[str]] = deque([None, None], maxlen=2)  # None: no string
    for opcode, arg in opcodes:
        if opcode in ('GLOBAL', 'INST'):
            module, _, name = arg.partition(' ')
            yield module, name
        elif opcode == 'STACK_GLOBAL':
            yield top[0] or '?', top[1] or '?'
        elif opcode.startswith('EXT'):  # a class or function by its number
            yield 'copyreg', f'extension {arg}'
        if opcode == 'MEMOIZE':
            memo[len(memo)] = top[1]
        elif opcode.endswith('PUT'):
            memo[arg] = top[1]
        elif opcode.endswith('GET'):
            top.append(memo.get(arg))
        elif opcode not in ('FRAME', 'PROTO'):  # which leave the stack as it is
            top.append(arg if isinstance(arg, str) else None)
