"""Checkpoints of older frameworks, and of the authors, for the models of this package; and back.

The authors' released detectors are mmdet 2.x files: four ``neck.upsample_modules`` in mmdet's ``FPN_CARAFE``, of which ours has the names,
``scope.bias`` in files of before 2024-03-27, and optimizer, log and config text beside the weights. The weights of ResNets, RPNs, box, mask
and semantic heads have kept their names from mmdet 2 to 3.
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
from .recognition import fitting_options

State = dict[str, Tensor]


class Change(NamedTuple):
    """What happened to something in a file."""

    change: str
    what: str
    number: int
    why: str

    def row(self) -> dict[str, str]:
        """For a table."""
        return {name: str(value) for name, value in self._asdict().items()}


def check_output(source: str, out: Path, force: bool = False) -> None:
    """Check that nothing will be lost where a converted checkpoint is to be written.

    Args:
        source: The file to convert.
        out: The file to write.
        force: Whether it may take the place of another.

    Raises:
        ValueError: It would take the place of its source, of a folder, or, unless ``force``, of any other file.
    """
    if '://' in source:
        raise ValueError(f'IN must be a file, got the address {source}: download it first')
    if out.is_dir():
        raise ValueError(f'OUT must be a file, got the folder {out}')
    parent = next(folder for folder in out.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise ValueError(f'OUT cannot lie in {parent}, which is a file')
    if out.resolve() == Path(source).resolve() or (out.exists() and Path(source).exists() and out.samefile(source)):
        raise ValueError(f'IN and OUT are both {source}: choose another OUT')
    if out.exists() and not force:
        raise ValueError(f'{out} exists: choose another OUT, or overwrite it with --force')


def convert_state(state: State, model: nn.Module, source: str, config: str) -> tuple[State, list[Change]]:
    """Bring the weights of a file under the names of a model; none is invented, and none lost.

    Args:
        state: The weights of the file.
        model: The model of the config. It has the weights afterwards.
        source: What to call the file in errors.
        config: What to call the config in errors.

    Returns:
        Weights that load strictly into the model, and what was done to them.

    Raises:
        ValueError: They are of another model; with the options that would fit, where the file tells.
    """
    converted = {name.removeprefix('module.'): value for name, value in state.items()}
    if len(converted) < len(state):
        raise ValueError(f'{source} holds weights both with and without the prefix module.')
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
        Change('kept', '*', len(state) - wrapped, 'under its name'),
        Change('renamed', 'module.*', wrapped, 'to *: the model was saved in its wrapper'),
        *_grouped('kept', [name for name in older if name in converted], 'of an older DySample+; a constant if you train on'),
        *_grouped('added', added, 'the same in every file'),
    ]
    return converted, [change for change in changes if change.number]


def convert_checkpoint(content: dict[str, Any], model: nn.Module, source: str, config: str) -> tuple[dict[str, Any], list[Change]]:
    """Make a checkpoint of mmengine's form.

    Args:
        content: What the file holds: a dict with ``state_dict``, or weights alone.
        model: As in :func:`convert_state`.
        source: As in :func:`convert_state`.
        config: As in :func:`convert_state`.

    Returns:
        A dict with ``state_dict`` and ``meta``, in which the classes of the data are all that stays, and what was done. The optimizer of
        another framework's version could not be resumed from, and a config text would be run by who resumes.

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
    changes += [Change('dropped', key, 1, 'training starts anew from the weights') for key in rest]
    left = sorted(str(key) for key in meta.keys() - {'CLASSES', 'PALETTE', 'dataset_meta'})
    if left:
        changes.append(Change('dropped', f'meta: {", ".join(left)}', len(left), 'of the run that made the file'))
    meta = {'mmdysample_version': __version__, 'converted_from': source, **({'dataset_meta': classes} if classes else {})}
    return {'meta': meta, 'state_dict': state}, changes


def _constants(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What a file may leave out, because it is not learnt."""
    positions = {f'{name}.init_pos' for name, module in model.named_modules() if isinstance(module, DySample)}
    for name, value in model.state_dict().items():
        if name in positions:
            yield name, value.clone()
        elif name.endswith('.num_batches_tracked'):
            yield name, torch.zeros_like(value)


def _check(state: State, added: State, model: nn.Module, source: str, config: str) -> None:
    """Raise for weights that are not those of the model."""
    expected = model.state_dict()
    options = fitting_options(state, model)
    hint = f'; what fits the file is {options}' if options else ''
    other = [name for name in state.keys() & expected.keys() if state[name].shape != expected[name].shape]
    if other:
        # A weight of the rest of the model before one of an upsampler, and before biases: no upsampler makes that fit.
        name = min(other, key=lambda name: ('.upsample_modules.' in name, not name.endswith('.weight'), name))
        shapes = f'{tuple(state[name].shape)} in {source} and {tuple(expected[name].shape)} in {config}'
        raise ValueError(f'{name} is {shapes}{hint if ".upsample_modules." in name else ": the file is of another model"}')
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
        if not torch.allclose(position, module.init_pos, atol=1e-3):  # files may be of half precision
            zero = "; all zero is init_position='nearest' in the config of the upsampler" if not position.any() else ''
            raise ValueError(f'{name}.init_pos in {source} is not where {config} lets the points start{zero}')


def _dataset_meta(meta: dict[str, Any]) -> Optional[dict[str, Any]]:
    if isinstance(meta.get('dataset_meta'), dict):
        return meta['dataset_meta']
    return {key.lower(): meta[key] for key in ('CLASSES', 'PALETTE') if meta.get(key)} or None


def _grouped(change: str, names: Iterable[str], why: str) -> list[Change]:
    """One line for all names that differ in numbers alone."""
    return [Change(change, what, number, why) for what, number in Counter(re.sub(r'\.\d+\.', '.*.', name) for name in names).items()]


def _some(names: Collection[str], count: int = 3) -> str:
    return ', '.join(sorted(names)[:count]) + (f' and {len(names) - count} more' if len(names) > count else '')
