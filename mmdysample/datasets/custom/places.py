"""Find the files of a split in a folder of the user."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional


class Split(NamedTuple):
    """The annotations of a split, and the folder of its images; None for the default place.

    The annotations are a file for COCO's format, and a folder for label maps and depth maps.
    """

    ann: Optional[str] = None
    img: Optional[str] = None


def find(folder: Path, given: Optional[str], patterns: Sequence[str], flag: str, own: Optional[str] = None) -> Path:
    """Return the path of a file or a folder.

    Args:
        folder: The folder of the data.
        given: A path, relative to the current directory or to the folder, or None.
        patterns: The default places below the folder. The first that matches anything must match once. A pattern of a folder ends in ``/``.
        flag: The option that names the path, for error messages.
        own: The place in the config, which is taken if it exists below the folder.

    Returns:
        An absolute path.

    Raises:
        ValueError: There is no such path, it is a file where a folder is needed or the other way round, or there are several.
    """
    wants_folder = patterns[0].endswith('/')
    if given:
        candidates = [path for path in (Path(given).expanduser(), folder / given) if path.exists()]
        if not candidates:
            raise ValueError(f'{flag}: there is no {given}, neither in the current directory nor in {folder}')
        right = [path for path in candidates if path.is_dir() == wants_folder]
        if not right:
            raise ValueError(
                f'{flag} takes a {"folder, and this is a file" if wants_folder else "file, and this is a folder"}: {candidates[0]}'
            )
        return right[0].resolve()
    if own and (folder / own).is_dir() == wants_folder and (folder / own).exists():
        return folder / own
    for pattern in patterns:
        found = sorted(path for path in folder.glob(pattern.rstrip('/')) if path.is_dir() == wants_folder)
        if len(found) == 1:
            return found[0]
        if found:
            names = ', '.join(path.name for path in found)
            raise ValueError(f'{folder} should hold one {pattern}, but holds more than one ({names}): give it with {flag}')
    raise ValueError(f'{folder} should hold one {" or ".join(patterns)}, but holds none: give it with {flag}')
