"""Convert checkpoints of mmdet 2.x, mmseg 0.x and the authors of upsamplers to the models of this package, and back.

The detectors that the authors released are mmdet 2.x files. They hold four ``neck.upsample_modules`` of mmdet's ``FPN_CARAFE``, which have
the same names in our FPN, and ``scope.bias`` in files from before 2024-03-27. Besides the weights they hold the optimizer, the log and the
text of the config. ResNets, RPNs, box, mask and semantic heads have the same weight names in mmdet 2 and mmdet 3.

The files of LDA-AQU, FRFU and FreqFusion are those of :mod:`.released`.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn

from mmdysample.upsamplers import DySample
from mmdysample.version import __version__

from .errors import one_line
from .files import check_out
from .recognition import fitting_options
from .released import from_rivals

State = dict[str, Tensor]


class Change(NamedTuple):
    """A change that the conversion made to a checkpoint: how many entries were kept, renamed, added or dropped, and why."""

    change: str
    what: str
    number: int
    why: str

    def row(self) -> dict[str, str]:
        """Return it as a row of a table."""
        return {name: str(value) for name, value in self._asdict().items()}


def check_output(source: str, out: Path, force: bool = False) -> None:
    """Check that writing a converted checkpoint overwrites nothing by mistake.

    Args:
        source: The file to convert.
        out: The file to write.
        force: Whether an existing file may be overwritten.

    Raises:
        ValueError: ``source`` is a URL or is ``out`` itself, or :func:`~mmdysample.engine.files.check_out` refuses ``out``.
    """
    if '://' in source:
        raise ValueError(f'IN must be a file, got the URL {source}: download it first')
    if out.resolve() == Path(source).resolve() or (out.exists() and Path(source).exists() and out.samefile(source)):
        raise ValueError(f'IN and OUT are both {source}: choose another OUT')
    check_out(out, force, 'OUT')


def convert_state(state: State, model: nn.Module, source: str, config: str) -> tuple[State, list[Change]]:
    """Rename the weights of a file to the names of a model.

    No weight is dropped. Values that are not learnt are added, or left out where the model computes them.

    Args:
        state: The weights of the file.
        model: The model of the config. The converted weights are loaded into it.
        source: The name of the file in error messages.
        config: The name of the config in error messages.

    Returns:
        Weights that load into the model with ``strict=True``, and the changes.

    Raises:
        ValueError: The weights belong to another model. The message names options that fit the file, if they can be recognised.
    """
    converted = {name.removeprefix('module.'): value for name, value in state.items()}
    if len(converted) < len(state):
        raise ValueError(f'{source} holds weights both with and without the prefix module.')
    converted, renamed, constants = from_rivals(converted, model, source)
    added = {name: value for name, value in _constants(model) if name not in converted}
    _check(converted, added, model, source, config)
    converted.update(added)
    try:
        model.load_state_dict(converted, strict=True)
    except RuntimeError as error:
        raise ValueError(f'{source} does not fit {config}: {one_line(error)[:400]}') from error
    wrapped = sum(name.startswith('module.') for name in state)
    older = [f'{name}.scope.bias' for name, module in model.named_modules() if isinstance(module, DySample)]
    changes = [
        Change('kept', '*', sum(name in converted for name in state), 'under its name'),
        Change('renamed', 'module.*', wrapped, 'to *: the model was saved in a wrapper for several GPUs'),
        Change('renamed', '*.alignment.*', len(renamed), 'to *.upsample_modules.*'),
        *_grouped('dropped', constants, 'the model computes it'),
        *_grouped('kept', [name for name in older if name in converted], 'of an older DySample+; training does not change it'),
        *_grouped('added', added, 'not learnt'),
    ]
    return converted, [change for change in changes if change.number]


def convert_checkpoint(content: dict[str, Any], model: nn.Module, source: str, config: str) -> tuple[dict[str, Any], list[Change]]:
    """Convert a checkpoint to mmengine's format.

    Args:
        content: The content of the file: a dict with ``state_dict``, or the weights themselves.
        model: As in :func:`convert_state`.
        source: As in :func:`convert_state`.
        config: As in :func:`convert_state`.

    Returns:
        A dict with ``state_dict`` and ``meta``, and the changes. Only the classes of the data are kept from the file's ``meta``. The state
        of the optimizer is dropped, because another version of the framework cannot resume from it, and the text of the config, because
        mmengine would execute it on resuming.

    Raises:
        ValueError: As in :func:`convert_state`.
    """
    bare = 'state_dict' not in content
    state, changes = convert_state(content if bare else content['state_dict'], model, source, config)
    meta = content.get('meta') if not bare else None
    meta = meta if isinstance(meta, dict) else {}
    classes = _dataset_meta(meta)
    if classes:
        changes.append(Change('kept', 'meta: classes', 1, 'as dataset_meta, where mmengine looks for it'))
    rest = [] if bare else [key for key in content if key not in ('state_dict', 'meta')]
    changes += [Change('dropped', key, 1, 'training starts afresh from the weights') for key in rest]
    left = sorted(str(key) for key in meta.keys() - {'CLASSES', 'PALETTE', 'dataset_meta'})
    if left:
        changes.append(Change('dropped', f'meta: {", ".join(left)}', len(left), 'describes the run that saved the file'))
    meta = {'mmdysample_version': __version__, 'converted_from': source, **({'dataset_meta': classes} if classes else {})}
    return {'meta': meta, 'state_dict': state}, changes


def _constants(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the names and values of the entries that a file may lack because they are not learnt."""
    positions = {f'{name}.init_pos' for name, module in model.named_modules() if isinstance(module, DySample)}
    for name, value in model.state_dict().items():
        if name in positions:
            yield name, value.clone()
        elif name.endswith('.num_batches_tracked'):
            yield name, torch.zeros_like(value)


def _check(state: State, added: State, model: nn.Module, source: str, config: str) -> None:
    """Raise ValueError for weights that are not those of the model."""
    expected = model.state_dict()
    options = fitting_options(state, model)
    hint = f'; the options that fit the file are {options}' if options else ''
    other = [name for name in state.keys() & expected.keys() if state[name].shape != expected[name].shape]
    if other:
        # Name a weight outside the upsamplers if there is one, because no choice of upsampler makes it fit; and weights before biases.
        name = min(other, key=lambda name: ('.upsample_modules.' in name, not name.endswith('.weight'), name))
        shapes = f'{tuple(state[name].shape)} in {source} and {tuple(expected[name].shape)} in {config}'
        raise ValueError(f'{name} is {shapes}{hint if ".upsample_modules." in name else ": the file belongs to another model"}')
    dysamples = {name: module for name, module in model.named_modules() if isinstance(module, DySample)}
    older = {f'{name}.scope.bias' for name, module in dysamples.items() if module.dyscope}
    for problem, names in (
        (f'{source} lacks', expected.keys() - state.keys() - added.keys()),
        (f'{config} has no place for', state.keys() - expected.keys() - older),
    ):
        if names:
            raise ValueError(f'{problem} {len(names)} weights: {_some(names)}{hint}')
    for name, module in dysamples.items():
        position = state.get(f'{name}.init_pos', module.init_pos).to(module.init_pos)
        if not torch.allclose(position, module.init_pos, atol=1e-3):  # files may be in half precision
            zero = "; all zeros mean init_position='nearest' in the config of the upsampler" if not position.any() else ''
            raise ValueError(f'{name}.init_pos in {source} differs from the initial sampling positions of {config}{zero}')


def _dataset_meta(meta: dict[str, Any]) -> Optional[dict[str, Any]]:
    if isinstance(meta.get('dataset_meta'), dict):
        return meta['dataset_meta']
    return {key.lower(): meta[key] for key in ('CLASSES', 'PALETTE') if meta.get(key)} or None


def _grouped(change: str, names: Iterable[str], why: str) -> list[Change]:
    """Return one change for all names that differ only in their numbers."""
    return [Change(change, what, number, why) for what, number in Counter(re.sub(r'\.\d+\.', '.*.', name) for name in names).items()]


def _some(names: Collection[str], count: int = 3) -> str:
    return ', '.join(sorted(names)[:count]) + (f' and {len(names) - count} more' if len(names) > count else '')
