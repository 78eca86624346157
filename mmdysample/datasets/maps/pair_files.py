"""Check that the images of one of mmseg's datasets and their maps are there, belong together and have the same size."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import sha1
from pathlib import Path
from typing import Optional

from mmdysample.terminal.progress import progress

from ..findings import Finding
from ..image_files import IMAGE_ENDINGS, LOOK, LOSSY_ENDINGS, Header, check_pixels, header, listing, spread
from ..source import SPLITS, sources
from .pairs import Pairs

HEADERS = 24  # pairs whose headers are read before each training
COMPARED = 8  # images that are compared with training images before each training


def check_pair_files(pairs: Pairs, full: bool) -> Iterator[Finding]:
    """Check the names of all images and maps, and the sizes of some.

    Args:
        pairs: The images and their maps. Where all have another ending than the config says, the config is changed.
        full: Whether to decode all images.

    Yields:
        What is wrong.
    """
    if pairs.by_list:
        yield from _check_list(pairs)
    else:
        yield from _check_endings(pairs)
    if pairs.mapped and pairs.names:
        yield from _check_maps(pairs)
    yield from _check_sizes(pairs, full)
    if any(not place.startswith('train') for place in pairs.source.places):
        yield from _check_overlap(pairs, full)


def _check_list(pairs: Pairs) -> Iterator[Finding]:
    """Find images that are named in a text file, but are not there, or are named twice."""
    place, ending = pairs.source.ann_file or pairs.images, pairs.image_ending
    names = [image for image, _ in pairs.listed]
    remedy = f'each line must be the name of an image in {pairs.images} without its ending {ending}, with / between folders'
    if not names:
        yield Finding('error', place, 'images are named in the list', remedy, 0)
    if missing := _missing(pairs.images, names):
        if fits := _fitting([name.removesuffix(ending) for name in names], listing(pairs.images)):
            remedy = f'the images end in {fits[0]}: {_image_option(pairs, fits[0])}'
        first = missing[0] if missing[0].isprintable() else ascii(missing[0])  # a byte order mark cannot be seen
        example = 'an empty line' if first == ending else first
        yield Finding('error', place, 'images of the list are missing', remedy, len(missing), example)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        yield Finding('warning', place, 'images are named more than once', 'remove the repetitions', len(twice), twice[0])


def _check_endings(pairs: Pairs) -> Iterator[Finding]:
    """Find images that the dataset leaves out, because their names do not end as the config says."""
    used = {image for image, _ in pairs.listed}
    left = sorted(name for name in _not_maps(pairs, listing(pairs.images) - used) if _ending(name).lower() in IMAGE_ENDINGS)
    if lost := [name for name in left if name.endswith(pairs.image_ending)]:
        what = 'images are left out, as they are links to files that are gone'
        yield Finding('warning' if pairs.listed else 'error', pairs.images, what, 'mend the links', len(lost), lost[0])
        left = [name for name in left if not name.endswith(pairs.image_ending)]
    ends = Counter(map(_ending, left)).most_common()
    what = f'images end in {pairs.image_ending}'
    if pairs.listed and left:
        other = ends[0][0]
        remedy = f'rename them, or use only those in {other} with {_image_option(pairs, other)}'
        yield Finding('warning', pairs.images, f'images are left out, as not all {what}', remedy, len(left), left[0])
    elif pairs.listed or lost:
        return
    elif not left:
        yield Finding('error', pairs.images, what, 'the folder holds no images', 0)
    elif len(ends) == 1 and (map_ending := _map_ending(pairs, [name.removesuffix(ends[0][0]) for name in left])):
        ending, before = ends[0][0], pairs.map_ending
        pairs.change({'img_suffix': ending, **({} if map_ending == before else {pairs.option: map_ending})})
        yield Finding('mended', pairs.images, what, f'those in {ending} are used instead, with img_suffix={ending}', 0)
    else:
        held = ', '.join(f'{count} in {ending}' for ending, count in ends)
        alike = 'give all the same ending, and set' if len(ends) > 1 else 'set'
        yield Finding('error', pairs.images, what, f'the folder holds {held}: {alike} {_image_option(pairs, ends[0][0])}', 0)


def _map_ending(pairs: Pairs, stems: list[str]) -> str:
    """Return the ending of the maps of some images: that of the config if any map has it, or '' if it is not clear which."""
    there = listing(pairs.maps)
    if not pairs.mapped or any(stem + pairs.map_ending in there for stem in stems):
        return pairs.map_ending
    fits = _fitting(stems, there)
    return fits[0] if len(fits) == 1 and _plain(fits[0]) else ''


def _check_maps(pairs: Pairs) -> Iterator[Finding]:
    """Find images without a map, and maps without an image."""
    kind, ending = pairs.kind, pairs.map_ending
    lost = set(_missing(pairs.images, [image for image, _ in pairs.names]))  # these have an error of their own
    stems = [image.removesuffix(pairs.image_ending) for image, _ in pairs.names if image not in lost]
    missing = _missing(pairs.maps, [label for image, label in pairs.names if image not in lost])
    if len(missing) == len(stems) and (fit := _map_ending(pairs, stems)):
        pairs.change({pairs.option: fit})
        yield Finding('mended', pairs.maps, f'{kind}s end in {ending}', f'those in {fit} are used, with {pairs.option}={fit}', 0)
    elif missing:
        remedy = _remedy_for_missing(pairs, stems, missing[0])
        yield Finding('error', pairs.maps, f'{kind}s are missing', remedy, len(missing), missing[0])
    if pairs.images == pairs.maps and pairs.image_ending == pairs.map_ending:
        remedy = f'say how their names differ, as in {_map_option(pairs, "_mask.png")}'
        yield Finding('error', pairs.maps, f'images are taken for their own {kind}s', remedy, len(pairs.names), pairs.names[0][0])
    if len(missing) < len(stems) and not pairs.by_list:
        images = {image.removesuffix(pairs.image_ending) for image, _ in pairs.listed}
        # An image that is left out for its ending has its own warning.
        images |= {name.removesuffix(_ending(name)) for name in _not_maps(pairs, listing(pairs.images))}
        ending = pairs.map_ending
        others = listing(pairs.maps) - ({image for image, _ in pairs.listed} if pairs.images == pairs.maps else set())
        lonely = sorted(name for name in others if name.endswith(ending) and name.removesuffix(ending) not in images)
        if lonely and not _shared(pairs):
            yield Finding('warning', pairs.maps, f'{kind}s have no image', 'they are not used', len(lonely), lonely[0])


def _remedy_for_missing(pairs: Pairs, stems: list[str], example: str) -> str:
    there = listing(pairs.maps)
    images = [image for image, _ in pairs.names]
    if len(_not_maps(pairs, images)) < len(images):
        return f'{pairs.kind}s among the images are taken for images: give them a folder of their own'
    if fits := _fitting(stems, there):
        if fits[0].lower().endswith(LOSSY_ENDINGS):
            return f'they are {fits[0]} files, whose compression changes the values of a {pairs.kind}: save them as PNG'
        ends = ' or '.join(fits)
        return f'files of their names end in {ends}: set the right one, as in {_map_option(pairs, fits[0])}'
    if other := next((name for name in there if name.casefold() == example.casefold()), None):
        return f'there is {other}: capital and small letters must be those of the image'
    return f'each image in {pairs.images} needs a {pairs.kind} of its name: add them, or move the images elsewhere'


def _image_option(pairs: Pairs, ending: str) -> str:
    return pairs.source.options({'img_suffix': ending})


def _map_option(pairs: Pairs, ending: str) -> str:
    return pairs.source.options({pairs.option: ending})


def _check_sizes(pairs: Pairs, full: bool) -> Iterator[Finding]:
    """Find images that cannot be read, and maps of another size than their image."""
    turned = pairs.source.turned
    broken, other, moved = [], [], []
    confirmed = False  # by the size of an image that is turned by a quarter
    for image, label in progress(pairs.names, f'images of {pairs.images}') if full else spread(pairs.names, HEADERS):
        if not (pairs.images / image).is_file():
            continue
        try:
            if full:
                check_pixels(pairs.images / image)
            head = header(pairs.images / image)
        except ValueError as error:
            broken.append(str(error))
            continue
        size, map_size = _size(head, turned), _map_size(pairs.maps / label) if pairs.mapped else None
        if map_size and size != map_size:
            other.append((image, size, label, map_size, head.rotated))
        elif map_size and (turned or head.format == 'TIFF'):
            confirmed |= head.quarter
            moved += [image] if head.moved else []
    if broken:
        yield Finding('error', pairs.images, 'images cannot be read', f'remove or repair them: {broken[0]}', len(broken))
    if other:
        image, size, label, map_size, rotated = other[0]
        remedy = 'each pixel of an image needs one of the map'
        if rotated and size == map_size[::-1]:
            remedy = "the image's EXIF data turns it when it is loaded, but not its map: turn the map, or save the image turned"
        example = f'{image} of {_by(size)} with {label} of {_by(map_size)}'
        yield Finding('error', pairs.maps, f'{pairs.kind}s have another size than their image', remedy, len(other), example)
    if moved and not other and not confirmed:
        what = 'images are turned by 180 degrees, mirrored, or turned as a square when they are loaded, as their EXIF data says'
        remedy = f'no size shows whether their {pairs.kind}s are turned as well: {LOOK}'
        yield Finding('warning', pairs.images, what, remedy, len(moved), moved[0])


def _check_overlap(pairs: Pairs, full: bool) -> Iterator[Finding]:
    """Find images that are also training images."""
    for source in sources(pairs.source.config, ('train',)):
        folder = source.folders.get('img_path')
        if not folder or not folder.is_dir():  # the training data need not be there for testing
            continue
        if folder.resolve() == pairs.images.resolve():
            try:
                trained = {image for image, _ in Pairs(source, pairs.prefix, pairs.kind, pairs.option).listed}
            except ValueError:  # it is reported where it is trained on
                continue
            same = [image for image, _ in pairs.names if image in trained]
        else:
            same = _same_content(pairs, folder, full)
        if same:
            remedy = 'so the metrics are not those of unseen images: choose others to evaluate on'
            yield Finding('warning', pairs.images, 'images are training images as well', remedy, len(same), same[0])


def _same_content(pairs: Pairs, folder: Path, full: bool) -> list[str]:
    """Return the images that are also in another folder: under any name, or only under the same name unless ``full``."""
    if not full:
        names = [image for image, _ in spread(pairs.names, COMPARED)]
        return [n for n in names if _bytes(folder / n) == _bytes(pairs.images / n) != b'']
    others = _by_size(folder, listing(folder))
    found = []
    for size, names in _by_size(pairs.images, [image for image, _ in pairs.names]).items():
        digests = {sha1(_bytes(folder / name)).digest() for name in others.get(size, ())}
        found += [name for name in names if digests and sha1(_bytes(pairs.images / name)).digest() in digests]
    return found


def _by_size(folder: Path, names: Iterable[str]) -> dict[int, list[str]]:
    groups: dict[int, list[str]] = {}
    for name in names:
        path = folder / name
        if path.is_file():
            groups.setdefault(path.stat().st_size, []).append(name)
    return groups


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b''


def _size(head: Header, turned: bool) -> tuple[int, int]:
    """Return the width and height of an image, with or without the rotation in its EXIF data."""
    return (head.height, head.width) if head.rotated and not turned else (head.width, head.height)


def _map_size(path: Path) -> Optional[tuple[int, int]]:
    """Return the width and height of a map, or None if its header cannot be read."""
    try:
        return _size(header(path), turned=False)
    except ValueError:
        return None


def _by(size: tuple[int, int]) -> str:
    return f'{size[0]}x{size[1]}'


def _missing(folder: Path, names: list[str]) -> list[str]:
    there = listing(folder)
    return [name for name in names if name not in there and not (folder / name).is_file()]


def _fitting(stems: list[str], names: frozenset[str]) -> list[str]:
    """Return the endings with which every stem is among the names, the plain ones first."""
    first = stems[0] if stems else ''
    ends = {name[len(first) :] for name in names if first and name.startswith(first)}
    fits = [end for end in ends if end and not end[0].isalnum() and all(stem + end in names for stem in stems)]
    return sorted(fits, key=lambda end: (not _plain(end), end))


def _plain(ending: str) -> bool:
    """Return True if an ending names only a format that stores values exactly, such as ``.png``."""
    return _ending(ending) == '' and ending.startswith('.') and not ending.lower().endswith(LOSSY_ENDINGS)


def _ending(name: str) -> str:
    return os.path.splitext(name)[1]


def _not_maps(pairs: Pairs, names: Iterable[str]) -> list[str]:
    """Return the files in the folder of the images that are no maps."""
    inner = pairs.inner
    return [n for n in names if inner is None or not (n.startswith(inner) if inner else n.endswith(pairs.map_ending))]


def _shared(pairs: Pairs) -> bool:
    """Return True if another dataset of the config keeps its maps in the same folder."""
    others = sources(pairs.source.config, SPLITS)
    return any(s.dataset != pairs.source.dataset and s.folders.get(pairs.prefix) == pairs.maps for s in others)
