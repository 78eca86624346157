"""Parse a COCO annotation file, in whatever form text may be saved."""

import gc
import gzip
import json
from pathlib import Path
from typing import Any

from ..findings import Finding

LARGE = 2**23  # characters from which garbage collection takes seconds
GZIP = b'\x1f\x8b'
ENCODINGS = {'utf-8-sig': 'a byte order mark'}  # other encodings than UTF-8 are named as Python names them


def parse(path: Path) -> tuple[Any, list[Finding]]:
    """Return the content of a JSON file, and in what respects it is not plain UTF-8.

    Compressed files, byte order marks and UTF-16 are read as they are meant; pycocotools reads none of them.

    Raises:
        ValueError: The file is not JSON. The message says what it is instead.
    """
    raw, mended = path.read_bytes(), []
    if raw.startswith(GZIP):
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError) as error:
            raise ValueError(f'{path} is compressed with gzip, but cannot be unpacked: {error}') from error
        mended.append(Finding('mended', path, 'file compressed with gzip', 'it is unpacked in memory'))
    encoding = json.detect_encoding(raw)
    if encoding != 'utf-8':
        mended.append(Finding('mended', path, f'file in {encoding}: {ENCODINGS.get(encoding, "not UTF-8")}', 'it is read as such'))
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is not JSON: it is not in UTF-8 ({error}); save it in UTF-8') from error
    del raw  # COCO's training annotations have 450 MB
    collects = gc.isenabled()
    gc.disable()  # looking for garbage among millions of new objects doubles the time
    try:
        return json.loads(text), mended
    except ValueError as error:
        hint = _hint(text, error)
        raise ValueError(f'{path} is not JSON: {error}{"; " if hint else ""}{hint}') from error
    except RecursionError as error:
        raise ValueError(f'{path} is not JSON of annotations: it is nested too deeply') from error
    finally:
        if len(text) > LARGE:
            gc.freeze()  # nor should anything that comes later look among them: JSON has no cycles
        if collects:
            gc.enable()


def _hint(text: str, error: ValueError) -> str:
    """Return what the user probably has in place of JSON, or an empty string."""
    start, at = text[:100].lstrip(), getattr(error, 'pos', 0)
    if not start:
        return 'the file is empty'
    if start.startswith('version https://git-lfs'):
        return 'it is a pointer of Git LFS: get the file itself with git lfs pull'
    if start.startswith('<'):
        return 'it is XML or a web page'
    if getattr(error, 'msg', '') == 'Extra data':
        return 'it holds several JSON values, such as one on each line (JSON Lines); COCO annotations are one object'
    if text[:at].rstrip().endswith(',') and text[at : at + 1] in ('}', ']'):
        return 'remove the comma before the closing bracket'
    if not text[at:].strip() or getattr(error, 'msg', '').startswith('Unterminated string'):
        return 'the file seems to be cut off: copy it again'
    return ''
