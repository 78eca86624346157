"""Read and mend the file ``last_checkpoint``, in which mmengine writes the path of the checkpoint that it saved last."""

import locale
from contextlib import suppress
from pathlib import Path
from typing import Union

from ..checkpoint import checkpoints
from ..files import whole_file

NAME = 'last_checkpoint'


def last_checkpoint(folder: Path) -> Union[Path, str, None]:
    """Return the checkpoint that was saved last, or None.

    A kill can leave the file empty, and a moved work directory leaves a path that is no longer there. The latest checkpoint of the folder
    is then returned, and the file names it again. An address such as ``s3://bucket/iter_2.pth``, with the hook's ``out_dir``, is returned
    as it is.

    Args:
        folder: The work directory.
    """
    file = folder / NAME
    encoding = locale.getpreferredencoding(False)  # with which mmengine writes it
    with suppress(OSError, ValueError):  # it is missing, not text, or too long for a path
        named = file.read_text(encoding=encoding).strip()
        if '://' in named or Path(named).is_file():
            return named if '://' in named else Path(named)
    latest = next(iter(checkpoints(folder)), None)
    if latest is not None:
        if file.exists():
            print(f'{file} named no checkpoint that is there; it now names {latest.name}')
        with whole_file(file) as part:
            part.write(str(latest.absolute()).encode(encoding))
    return latest
