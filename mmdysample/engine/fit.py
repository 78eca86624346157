"""Compare the weights of a checkpoint with those of a model. mmengine does not: it loads the weights that match and goes on."""

import copy
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

import torch
from mmengine.model import is_model_wrapper
from torch import nn

from mmdysample.terminal.text import short

from .checkpoint import State, load_content
from .recognition import fitting_options

Shapes = dict[str, torch.Size]
STATISTICS = ('running_mean', 'running_var')
UNUSED = 'auxiliary_head.'  # mmseg's heads of this name only train


class Fit(NamedTuple):
    """The weights of a checkpoint beside those of a model."""

    path: str
    model: nn.Module
    state: State
    held: int  # how many of the model's weights the file has
    lacking: list[str]  # weights of the model that the file lacks, or has in another shape
    surplus: list[str]  # weights of the file that the model lacks

    @property
    def share(self) -> str:
        """How many of the model's weights the file holds."""
        return f"it holds {self.held} of the model's {self.held + len(self.lacking)} weights"

    @property
    def is_small(self) -> bool:
        """Return True if the file holds less than half of the model's weights."""
        return self.held < len(self.lacking)

    @property
    def fault(self) -> Optional[str]:
        """Why the model's predictions with these weights would be wrong: some would be random, or its upsamplers are others. Or None."""
        buffers = {name for name, _ in self.model.named_buffers()}
        needed = [name for name in self.lacking if (name not in buffers or name.endswith(STATISTICS)) and not name.startswith(UNUSED)]
        left = [name for name in self.surplus if '.upsample_modules.' in f'.{name}']
        if not needed and not left:
            return None
        what = f' and lacks {short(needed)}' if needed else f', and the model has no place for {short(left)}'
        remedy = _options(self) or _renaming(self) or 'use the config that was saved in the same folder'
        return f'{self.path} is not a checkpoint of this model: {self.share}{what}; {remedy}'

    @property
    def warning(self) -> Optional[str]:
        """The weights that are missing or left over, if there are any."""
        if not self.lacking and not self.surplus:
            return None
        told = f'warning: {self.path} does not fit this model exactly'
        if self.lacking:
            told += f'; {self.share} and lacks {short(self.lacking)}'
        if self.surplus:
            told += f'; {len(self.surplus)} of its weights are not in the model: {short(self.surplus)}'
        return f'{told}; use the config that was saved in the same folder'


def check_to_resume(path: str, model: nn.Module) -> None:
    """Check that a checkpoint has exactly the weights of a model.

    Args:
        path: The file, already checked by :func:`~mmdysample.engine.checkpoint.check_checkpoint`.
        model: The model.

    Raises:
        ValueError: Their weights differ.
    """
    fit = compare(path, model)
    if fit.lacking or fit.surplus:
        raise ValueError(
            f'{path} belongs to another model (they differ in {(fit.lacking or fit.surplus)[0]}), so training cannot resume from it; '
            f'{_options(fit) or "choose another --work-dir"}'
        )


def check_to_test(path: str, model: nn.Module) -> Optional[str]:
    """Check that a checkpoint has all the weights with which a model predicts.

    Args:
        path: As in :func:`check_to_resume`, or a URL.
        model: The model.

    Returns:
        A warning that names weights which make no difference to the predictions; None if there are none.

    Raises:
        ValueError: The file lacks weights, or has those of another upsampler.
    """
    fit = compare(path, model)
    if fault := fit.fault:
        raise ValueError(fault)
    return fit.warning


def check_to_start(path: str, model: nn.Module) -> Optional[str]:
    """Check that a checkpoint holds enough of a model's weights for training to start from it (``load_from``).

    Args:
        path: As in :func:`check_to_test`.
        model: The model.

    Returns:
        A warning that names the weights which keep their initial values; None if there are none.

    Raises:
        ValueError: The file holds less than half of the model's weights.
    """
    fit = compare(path, model)
    if fit.is_small:
        raise ValueError(f'load_from={path} is of another model: {fit.share}; {_renaming(fit) or _part(fit) or _names(fit)}')
    if not fit.lacking:
        return None
    others = f'the others keep their initial values: {short(fit.lacking)}'
    return f'warning: load_from={path} does not fit this model exactly: {fit.share}; {others}'


def compare(path: str, model: nn.Module) -> Fit:
    """Compare the weights of a file with those of a model, which stays unchanged."""
    content = load_content(path)
    # As in mmengine's loader: on several GPUs the model is wrapped, and older files were saved with the prefix of the wrapper.
    inner: Any = model.module if is_model_wrapper(model) else model
    state = {name.removeprefix('module.'): value for name, value in content.get('state_dict', content).items()}
    expected = shapes_of(inner.state_dict())
    fitting = {name: value for name, value in state.items() if value.shape == expected.get(name, value.shape)}
    # Load into a copy, because modules convert older files while loading, as DySample does with scope.bias.
    lacking, surplus = copy.deepcopy(inner).load_state_dict(fitting, strict=False)
    return Fit(path, inner, state, len(fitting.keys() & expected.keys()), lacking, surplus)


def shapes_of(state: Mapping[str, Any]) -> Shapes:
    """Return the shapes of weights by their names."""
    return {name: value.shape for name, value in state.items() if isinstance(value, torch.Tensor)}


def fitting_prefix(state: Shapes, own: Shapes) -> Optional[str]:
    """Return the prefix, such as ``'backbone.'``, with which the names of at least half of a module's weights are those of a file.

    Args:
        state: The shapes of the file's weights.
        own: The shapes of the module's weights.
    """
    found: Counter[str] = Counter()
    for name in sorted(own, key=len)[-20:]:
        found.update(key[: -len(name)] for key in state if key.endswith(f'.{name}'))
    for prefix, _ in found.most_common(3):
        if 2 * sum(state.get(prefix + name) == shape for name, shape in own.items()) >= len(own):
            return prefix
    return None


def _options(fit: Fit) -> str:
    options = fitting_options(fit.state, fit.model)
    return f'the options that fit the file are {options}' if options else ''


def _renaming(fit: Fit) -> str:
    """Return how to save a file's weights under the names of the model, if they differ in a prefix only."""
    prefix = fitting_prefix(shapes_of(fit.state), shapes_of(fit.model.state_dict()))
    if not prefix:
        return ''
    renamed = f"{{k.removeprefix('{prefix}'): v for k, v in c.get('state_dict', c).items()}}"
    code = f"c = torch.load('{fit.path}'); torch.save({renamed}, 'weights.pth')"
    return f'its names begin with {prefix}, and those of the model do not; rename them: python -c "import torch; {code}"'


def _part(fit: Fit) -> str:
    """Return how to start training from a file that has the weights of a part of the model."""
    theirs = shapes_of(fit.state)
    for name, part in fit.model.named_children():
        own = shapes_of(part.state_dict())
        pretrained = f'model.{name}.init_cfg'
        start = f'--cfg-options {pretrained}._delete_=True {pretrained}.type=Pretrained {pretrained}.checkpoint={fit.path}'
        if own and 2 * sum(theirs.get(key) == shape for key, shape in own.items()) >= len(own):
            return f'its weights are those of model.{name}: start from them with {start}'
        if own and (prefix := fitting_prefix(theirs, own)):
            return f'it fits model.{name}: start from that with {start} {pretrained}.prefix={prefix}'
    return ''


def _names(fit: Fit) -> str:
    return f'its weights have names such as {next(iter(fit.state))}, and the model lacks {short(fit.lacking)}'
