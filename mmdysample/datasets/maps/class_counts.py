"""Check that the heads of a segmentation model predict as many classes as its data has."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmdysample.terminal.text import short

from ..findings import Finding
from ..source import Source, kind_of, options

BOUNDARY_HEADS = ('STDCHead',)  # they predict where classes meet, not which classes
SOFTMAX = ('CrossEntropyLoss',)
IGNORED = 255  # the label that mmseg ignores by default
MUCH = 0.2  # of the pixels, if they are ignored; 0.1 of those of ADE20K have label 0, which means unlabelled there


def check_heads(config: Config, classes: list[str]) -> Iterator[Finding]:
    """Check the number of classes of every decode head and auxiliary head.

    With another number, training ends in an index error, or the model learns names of other classes.

    Args:
        config: The config.
        classes: The classes of the data.

    Yields:
        What is wrong.
    """
    place = Path(config.filename or 'config')
    wrong = {}
    for path, head in _heads(config):
        if _learns_nothing(head, len(classes)):
            what = f'head has one channel without use_sigmoid ({path}), and softmax over one channel is always 1'
            binary = f'{path}.out_channels=1 {path}.loss_decode.use_sigmoid=True'
            remedy = 'name the background as a class too, so that metainfo.classes are two, and set '
            remedy += options({f'{path}.num_classes': 2}) + f' (and, to keep one channel, {binary})'
            yield Finding('error', place, what, remedy if len(classes) == 1 else f'set --cfg-options {binary}')
        elif head['num_classes'] != len(classes):
            wrong[f'{path}.num_classes'] = head['num_classes']
    for path, node in _nodes(config):
        weight = node.get('class_weight')
        if isinstance(weight, (list, tuple)) and len(weight) not in (len(classes), len(classes) + 1):  # Mask2Former's has one for "none"
            remedy = f'{path}.class_weight needs a weight for each class'
            yield Finding('error', place, f'weights of classes for the {len(classes)} classes of the data', remedy, len(weight))
    if wrong:
        name, count = next(iter(wrong.items()))
        what = f'heads do not predict the {len(classes)} classes of the data ({short(classes)})'
        yield Finding('error', place, what, f'set {options(dict.fromkeys(wrong, len(classes)))}', len(wrong), f'{name}={count}')


def mend_palette(source: Source) -> Iterator[Finding]:
    """Remove a palette of another number of colours than there are classes, so that mmseg makes one up.

    mmseg refuses it. It is there where a config's classes were changed, but not their colours.

    Yields:
        What was mended.
    """
    meta = source.dataset.get('metainfo') or {}
    classes, palette = meta.get('classes'), meta.get('palette')
    if classes and palette and len(palette) != len([classes] if isinstance(classes, str) else classes):
        source.update({'metainfo': {**meta, 'palette': []}})
        what = f'colours of the palette are for other classes than {classes if isinstance(classes, str) else short(list(classes))}'
        yield Finding('mended', Path(source.config.filename or 'config'), what, 'others are made up', len(palette))


def ignored_label(config: Config) -> int:
    """Return the label that the decode head ignores."""
    return next((head['ignore_index'] for _, head in _heads(config) if 'ignore_index' in head), IGNORED)


def _heads(config: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the configs of all heads that have a number of classes, with their places in the config."""
    return ((path, node) for path, node in _nodes(config) if 'num_classes' in node)


def _nodes(config: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield all dicts in the decode heads and auxiliary heads, with their places in the config."""
    model = config.get('model') or {}
    pending = [(f'model.{name}', model.get(name)) for name in ('decode_head', 'auxiliary_head')]
    while pending:
        path, node = pending.pop(0)
        if isinstance(node, (list, tuple)):
            pending += [(f'{path}.{i}', part) for i, part in enumerate(node)]
        elif isinstance(node, dict) and kind_of(node) not in BOUNDARY_HEADS:
            yield path, node
            pending += [(f'{path}.{key}', part) for key, part in node.items()]


def _learns_nothing(head: dict[str, Any], classes: int) -> bool:
    """Return True if a head has a softmax over one channel, as with one class. Mask2Former's heads have a class for "none" besides."""
    if 'loss_cls' in head or ((head.get('out_channels') or head['num_classes']) != 1 and classes != 1):
        return False
    losses = head.get('loss_decode') or {'type': 'CrossEntropyLoss'}
    losses = losses if isinstance(losses, (list, tuple)) else [losses]
    return all(kind_of(loss) in SOFTMAX and not loss.get('use_sigmoid') for loss in losses)
