"""Check the label maps of semantic segmentation."""

import math
from collections.abc import Iterator

from mmdysample.terminal.text import short

from ..findings import Finding, Level
from ..image_files import header
from ..source import Source
from .class_counts import IGNORED, MUCH, check_heads, ignored_label, mend_palette
from .label_values import FAULTS, LabelReader, LabelsSeen
from .pair_files import check_pair_files
from .pairs import Pairs

LOADER = 'LoadAnnotations'
DENSE = 0.75  # of the numbers up to the largest label are labels, if classes were numbered one after another


def check_label_maps(source: Source, full: bool) -> Iterator[Finding]:
    """Check the images and label maps of a dataset of mmseg: whether all are there, and what values the maps hold.

    Args:
        source: The dataset.
        full: Whether to read everything, or only what takes seconds.

    Yields:
        What is wrong.

    Raises:
        ValueError: mmseg refuses the dataset.
    """
    if not {'img_path', 'seg_map_path'} <= source.folders.keys():
        return
    yield from mend_palette(source)
    pairs = Pairs(source, 'seg_map_path', 'label map', 'seg_map_suffix')
    yield from check_pair_files(pairs, full)
    classes = pairs.dataset.metainfo.get('classes') or ()
    if not classes or isinstance(classes, str):
        what = f'classes are named for this {source.kind}' + (f': {classes!r} is neither a list nor a file' if classes else '')
        yield Finding('error', pairs.images, what, f'name them, as in {source.options({"metainfo.classes": "ground,tree"})}', 0)
        return
    yield from check_heads(source.config, list(classes))
    if not pairs.mapped:
        return
    reader = LabelReader(pairs)
    if reader.contradicts:
        yield _contradiction(pairs, reader)
        return
    seen = LabelsSeen(pairs, reader, len(classes), ignored_label(source.config), full)
    yield from _check_faults(pairs, reader, seen, len(classes))
    yield from _check_meaning(pairs, reader, seen, list(classes))


def _contradiction(pairs: Pairs, reader: LabelReader) -> Finding:
    return Finding(
        'error',
        pairs.maps,
        f'reduce_zero_label of {LOADER} is {reader.reduces}, and that of {pairs.source.kind} is {not reader.reduces}',
        f'if 0 is a class, set {_reduce(pairs, False)}; if the classes begin at 1 and 0 is unlabelled, set {_reduce(pairs, True)}',
    )


def _reduce(pairs: Pairs, value: bool) -> str:
    """Return the options that set ``reduce_zero_label``, both in the dataset and where its maps are loaded."""
    step = f'{pairs.source.place(LOADER)}.reduce_zero_label'
    return pairs.source.options({'reduce_zero_label': value, step: value})


def _check_faults(pairs: Pairs, reader: LabelReader, seen: LabelsSeen, classes: int) -> Iterator[Finding]:
    """Find maps whose values cannot be labels of the classes."""

    def found(fault: str, what: str, remedy: str, level: Level = 'error') -> Iterator[Finding]:
        if maps := seen.faults.get(fault):
            yield Finding(level, pairs.maps, f'of {_maps(pairs, seen)} {what}', remedy, len(maps), maps[0])

    for fault, (what, remedy) in FAULTS.items():
        yield from found(fault, what, _remedy_for_palette(pairs, reader, seen.faults.get(fault, [])) or remedy)
    held = f'the maps hold {_ranges(seen.values)}'
    yield from found('beyond', f'hold labels beyond the {classes} classes', f'{held}: {_remedy_for_beyond(pairs, reader, seen, classes)}')
    if seen.pixels[IGNORED] and not set(seen.values) - {0}:
        what = f'of {_maps(pairs, seen)} hold only {"0 and " if seen.values else ""}255'
        remedy = '255 is ignored, so nothing can be learned: where a mask is 255, save the index of its class, such as 1'
        yield Finding('error', pairs.maps, what, remedy, seen.count)
    elif seen.faults.get('empty'):
        nothing = len(seen.faults['empty']) == seen.count
        remedy = 'nothing is learned from them' + (f'; is label 0 a class? Then set {_reduce(pairs, False)}' if reader.reduces else '')
        yield from found('empty', 'hold only ignored labels', remedy, 'error' if nothing else 'warning')


def _remedy_for_palette(pairs: Pairs, reader: LabelReader, faults: list[str]) -> str:
    """Return how to read the indices of a map with a palette, of which the backend returns the colours; '' if no map has one."""
    for name in (fault.split(': ')[0] for fault in faults if fault.endswith('channels')):
        if reader.backend != 'pillow' and header(pairs.maps / name).mode == 'P':
            option = pairs.source.options({f'{pairs.source.place(LOADER)}.imdecode_backend': 'pillow'})
            return f'{reader.backend} reads the colours of a palette, and pillow its indices: set {option}'
    return ''


def _remedy_for_beyond(pairs: Pairs, reader: LabelReader, seen: LabelsSeen, classes: int) -> str:
    low = int(reader.reduces)
    right = f'{low} to {low + classes - 1}' if classes > 1 else low
    remedy = f'the labels of the classes are {right}: name more in metainfo.classes, or translate the labels'
    if not reader.reduces and seen.values[-1:] == [classes]:
        meaning = 'if they begin at 1' + (' and 0 is unlabelled' if 0 in seen.values else '')
        return f'{meaning}, set {_reduce(pairs, True)}; otherwise {remedy}'
    return remedy


def _check_meaning(pairs: Pairs, reader: LabelReader, seen: LabelsSeen, classes: list[str]) -> Iterator[Finding]:
    """Find maps whose labels are possible, but look like those of other classes.

    Own classes are numbered without gaps: 0, 1, 2, ... Even two images of ADE20K have labels far apart among its 150.
    """
    labels, count = seen.values, len(classes)
    if seen.faults.get('beyond') or not labels or (labels == [0] and (reader.reduces or seen.pixels[IGNORED])):
        return  # these have an error of their own
    used = [label for label in labels if label or not reader.reduces]
    dense = labels[0] <= 1 and len(labels) >= DENSE * (labels[-1] + 1 - labels[0])  # a class may be missing in these maps
    few = seen.count > 1 and (len(used) == 1 < count or (dense and 3 * len(used) <= count))
    own = f'name the classes with --data-root {pairs.source.root} --classes A,B,C'
    held = _ranges(labels) + (' and 255' if seen.pixels[IGNORED] else '')
    zeros = seen.pixels[0] / seen.pixels.sum()
    counted = labels == list(range(labels[-1] + 1)) or seen.pixels[IGNORED] or (dense and zeros > MUCH)
    if reader.reduces and labels[0] == 0 and labels[-1] < count and counted:
        what = f'% of the pixels of {_maps(pairs, seen)} have label 0, which reduce_zero_label=True ignores, and the labels are {held}'
        remedy = f'if 0 is a class, set {_reduce(pairs, False)}' + (f'; if they are classes of your own, {own}' if few else '')
        yield Finding('warning', pairs.maps, what, remedy, math.ceil(100 * zeros))
    elif few:
        what = f'classes occur in {_maps(pairs, seen)} with the labels {held}, where the config has {short(classes)}'
        yield Finding('warning', pairs.maps, what, f'if they are classes of your own, {own}', len(used))


def _maps(pairs: Pairs, seen: LabelsSeen) -> str:
    return f'{seen.count} label maps' + ('' if seen.count == len(pairs.names) else ' looked at')


def _ranges(values: list[int]) -> str:
    """Return numbers as text, ``'0 to 5, 9'``."""
    parts: list[list[int]] = []
    for value in values:
        if parts and parts[-1][-1] == value - 1:
            parts[-1].append(value)
        else:
            parts.append([value])
    texts = [f'{p[0]} to {p[-1]}' if len(p) > 2 else ', '.join(map(str, p)) for p in parts]
    return ', '.join(texts if len(texts) < 9 else [*texts[:7], '...', texts[-1]])
