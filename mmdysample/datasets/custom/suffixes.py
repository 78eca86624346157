"""Find out how the names of a folder's images and maps belong together."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Optional

from ..image_files import IMAGE_ENDINGS, LOSSY_ENDINGS, listing, spread

LOOKED_AT = 32  # images whose maps are looked for
CANDIDATES = 16  # pairs of suffixes that are then counted over all names


class Suffixes(NamedTuple):
    """What follows the name that an image and its map share: ``('.jpg', '_mask.png')`` for ``a.jpg`` and ``a_mask.png``."""

    image: str
    map: str


def find_suffixes(images: Path, maps: Path, own: Suffixes, asked: Sequence[Optional[str]], options: Sequence[str]) -> Suffixes:
    """Return the suffixes with which most images have a map.

    Args:
        images: The folder of the images.
        maps: The folder of the maps, with the same subfolders.
        own: The suffixes of the config, which are kept if others would be as good.
        asked: The two suffixes that the user has asked for, each None where it is to be found.
        options: The two options that ask for them, for error messages.

    Raises:
        ValueError: A folder holds no image, the names do not belong together or do not tell images from maps, or images have several
            endings or several maps.
    """
    pictures, labels = (
        # A suffix that is asked for may be of another kind of file, as depth maps in .npy files are.
        sorted(
            name for name in listing(folder) if PurePosixPath(name).suffix.lower() in IMAGE_ENDINGS or (wanted and name.endswith(wanted))
        )
        for folder, wanted in zip((images, maps), asked)
    )
    for folder, names in ((images, pictures), (maps, labels)):
        if not names:
            raise ValueError(f'there is no image in {folder} (looked for {", ".join(sorted(IMAGE_ENDINGS))})')
    known = set(labels)
    seen = Counter(pair for name in spread(pictures, LOOKED_AT) for pair in _pairs(name, labels, name if images == maps else ''))
    candidates = {own, *(pair for pair, _ in seen.most_common(CANDIDATES))}
    candidates = {Suffixes(asked[0] or pair.image, asked[1] or pair.map) for pair in candidates}
    if images == maps:  # tell maps from images: no map has the ending of the images, and none is stored with losses
        candidates = {pair for pair in candidates if not pair.map.endswith(pair.image) and not pair.map.lower().endswith(LOSSY_ENDINGS)}
    paired = {pair: {name for name in pictures if _map_of(name, pair) in known} for pair in candidates}
    most = max(map(len, paired.values()), default=0)
    if 2 * most < min(len(pictures), len(labels)) or not most:
        raise ValueError(
            f'the maps in {maps} do not have the names of the images in {images} (such as {pictures[0]} and {labels[0]}): '
            'give each map the name of its image, with one ending for all, which may have more than the extension, as in _mask.png'
        )
    best = [pair for pair in paired if len(paired[pair]) == most]
    best = [own] if own in best else [pair for pair in best if pair.map.startswith('.')] or best
    if len(best) > 1:
        which, option = (0, options[0]) if len({pair.image for pair in best}) > 1 else (1, options[1])
        endings = sorted({pair[which] for pair in best})
        raise ValueError(
            f'{(images, maps)[which]} has {" and ".join(endings)} for the same names: choose with --cfg-options {option}={endings[0]}'
        )
    if images == maps and best[0].image.endswith(best[0].map) and best[0] != own and not asked[0]:
        raise ValueError(
            f'{images} holds files in {best[0].map} and in {best[0].image} of the same names, which does not tell images from maps: give '
            f'the maps a folder of their own, or say which are the images, as in --cfg-options {options[0]}={best[0].image}'
        )
    _check_mixed(best[0], paired, images, maps, options)
    return best[0]


def _check_mixed(best: Suffixes, paired: dict[Suffixes, set[str]], images: Path, maps: Path, options: Sequence[str]) -> None:
    """Raise ValueError if other images have maps of the same kind, but with other extensions: ``a.jpg`` and ``b.JPG``."""
    alike = {pair: names - paired[best] for pair, names in paired.items() if list(map(_root, pair)) == list(map(_root, best))}
    others = {pair: names for pair, names in alike.items() if names}
    if others:
        pair, names = max(others.items(), key=lambda item: len(item[1]))
        which = 0 if pair.image != best.image else 1
        raise ValueError(
            f'{len(paired[best])} of the names in {(images, maps)[which]} end in {best[which]} and {len(names)} in {pair[which]} '
            f'(such as {min(names)}), and a dataset reads one ending: rename them, or read only some with '
            f'--cfg-options {options[which]}={best[which]}'
        )


def _root(suffix: str) -> str:
    """Return a suffix without its extension: ``'_mask'`` for ``'_mask.png'``."""
    return suffix[: suffix.rindex('.')] if '.' in suffix else suffix


def _map_of(name: str, pair: Suffixes) -> Optional[str]:
    return name[: -len(pair.image)] + pair.map if name.endswith(pair.image) else None


def _pairs(image: str, maps: list[str], itself: str) -> Iterator[Suffixes]:
    """Yield the suffixes of an image and of the maps that share the longest part of its name with it, but not of the file ``itself``."""
    start = image.rfind('/') + 1
    stem = image[: image.rindex('.')]
    cuts = [len(stem), *(i for i in range(len(stem) - 1, start, -1) if not stem[i].isalnum())]
    for cut in cuts:
        first = bisect_left(maps, image[:cut])
        found = [name[cut:] for name in maps[first : first + LOOKED_AT] if name.startswith(image[:cut]) and name != itself]
        found = [rest for rest in found if '/' not in rest]
        if found:
            yield from (Suffixes(image[cut:], rest) for rest in found)
            return
