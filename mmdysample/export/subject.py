"""The object of an export: a model or a part of it, as a function from tensors to tensors."""

import copy
import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, keystr, tree_flatten_with_path, tree_unflatten

from mmdysample.engine.errors import one_line, show_traceback

from .whole import Whole


class Images(NamedTuple):
    """The size of a batch of images; ``channels`` is that of the model."""

    batch: int
    height: int
    width: int
    channels: int = 3

    def __str__(self) -> str:
        return f'{self.batch}x{self.channels}x{self.height}x{self.width}'


@dataclass(frozen=True)
class Subject:
    """A model or a part of it, and the batch of images that it is exported with."""

    whole: Whole
    part: Optional[str]  # None for the whole model
    images: Images
    function: 'Flat'  # its arguments are the inputs below, in this order
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]

    @property
    def title(self) -> str:
        """The name for messages."""
        return type(self.whole.model).__name__ if self.part is None else f'{self.part} ({type(self.function.module).__name__})'

    def inputs_for(self, images: Images) -> dict[str, Tensor]:
        """Return the inputs of the function for other images than those of the export."""
        return _call(self.whole, self.part, images, seed=1).tensors

    def half(self) -> 'Subject':
        """Return a copy in float16."""
        function = copy.deepcopy(self.function).half()
        return replace(self, function=function, inputs=halved(self.inputs))

    def __call__(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Run the function in PyTorch.

        Raises:
            ValueError: The model cannot be run on these inputs.
        """
        with torch.no_grad(), _naming_the_images(self.whole, ', '.join('x'.join(map(str, t.shape)) for t in inputs.values())):
            return self.function(*inputs.values())


class Flat(nn.Module):
    """A recorded call of a module, as a function of the tensors in its arguments. It returns the floating-point tensors of the result."""

    def __init__(self, module: nn.Module, arguments: dict[str, Any]) -> None:
        super().__init__()
        self.module = module
        named, self.spec = _leaves(arguments)
        self.constants = [None if isinstance(leaf, Tensor) else leaf for _, leaf in named]
        self.places = [i for i, (_, leaf) in enumerate(named) if isinstance(leaf, Tensor)]
        self.eval()  # exporters restore the mode of the outermost module, which is this one

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Call the module and return the tensors of the result."""
        return tuple(tensor for _, tensor in self.named(*tensors))

    def named(self, *tensors: Tensor) -> list[tuple[str, Tensor]]:
        """Return the tensors of the result, each with a name that says where it is in the result."""
        leaves = list(self.constants)
        for place, tensor in zip(self.places, tensors):
            leaves[place] = tensor
        arguments = inspect.BoundArguments(inspect.signature(self.module.forward), tree_unflatten(leaves, self.spec))
        result = self.module(*arguments.args, **arguments.kwargs)
        return [(name, leaf) for name, leaf in _leaves(result)[0] if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def make_subject(model: nn.Module, part: Optional[str], images: Images) -> Subject:
    """Return a model or a part of it as a function of tensors. The model is run once to record the call.

    Args:
        model: The model, in evaluation mode, on the CPU.
        part: The name of a module in it; None for the whole model, see :class:`Whole`.
        images: The batch of images.

    Raises:
        ValueError: The part does not exist, is not called, or takes or returns no tensor; or the model cannot be run.
    """
    whole = Whole(model)
    call = _call(whole, part, images, seed=0)
    function = Flat(call.module, call.arguments)
    with torch.no_grad():
        named = function.named(*call.tensors.values())
    if not call.tensors or not named:
        raise ValueError(f'--part {part} takes or returns no tensor: choose another module')
    outputs = tuple(name if part is None and name else '_'.join(filter(None, ('output', name))) for name, _ in named)
    return Subject(whole, part, images, function, call.tensors, outputs)


class _Call(NamedTuple):
    module: nn.Module
    arguments: dict[str, Any]

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {name: leaf for name, leaf in _leaves(self.arguments)[0] if isinstance(leaf, Tensor)}


def _call(whole: Whole, part: Optional[str], images: Images, seed: int) -> _Call:
    """Return the first call of a part for random images."""
    image = torch.randn(images.batch, images.channels, images.height, images.width, generator=torch.Generator().manual_seed(seed))
    if part is None:
        module: nn.Module = whole
    else:
        try:
            module = whole.model.get_submodule(part)
        except AttributeError:
            parts = [name for name, _ in whole.model.named_children() if name != 'data_preprocessor']
            raise ValueError(
                f'--part {part}: the model has no such module; its modules are {", ".join(parts)} and their submodules'
            ) from None
    with torch.no_grad(), _naming_the_images(whole, str(images)), _recording(module) as calls:
        whole(image)
    if not calls:
        raise ValueError(f'--part {part} is not used to compute {whole.gives}: choose a module that is')
    return _Call(module, calls[0])


@contextmanager
def _recording(module: nn.Module) -> Iterator[list[dict[str, Any]]]:
    """Record the arguments of each call by replacing ``forward``. A hook would miss heads whose ``forward`` is called directly."""
    calls: list[dict[str, Any]] = []
    forward = module.forward
    signature = inspect.signature(forward)

    def recording(*args: Any, **kwargs: Any) -> Any:
        calls.append(dict(signature.bind(*args, **kwargs).arguments))
        return forward(*args, **kwargs)

    kept = module.__dict__.get('forward')
    module.forward = recording
    try:
        yield calls
    finally:
        del module.forward
        if kept is not None:
            module.forward = kept


@contextmanager
def _naming_the_images(whole: Whole, shape: str) -> Iterator[None]:
    """Turn the errors of a model on images of an unsupported size into a ValueError of one line with that size.

    Raises:
        ValueError: The code in the ``with`` block raised such an error.
    """
    try:
        yield
    except (RuntimeError, ValueError, TypeError, AssertionError, AttributeError, IndexError, KeyError) as error:
        if show_traceback():
            raise
        raise ValueError(
            f'{type(whole.model).__name__} cannot be run in PyTorch on {shape} to compute {whole.gives} ({type(error).__name__}: '
            f'{one_line(error)[:200]}): choose another --size, or a --part (MMDYSAMPLE_TRACEBACK=1 shows where)'
        ) from error


def halved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors in float16, and those that are not floating-point as they are."""
    return {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def _leaves(tree: Any) -> tuple[list[tuple[str, Any]], TreeSpec]:
    """Return the leaves of nested lists, tuples and dicts, with their paths as names, and the structure."""
    leaves, spec = tree_flatten_with_path(tree)
    return [('_'.join(re.findall(r'\w+', keystr(path))), leaf) for path, leaf in leaves], spec
