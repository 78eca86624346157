"""Example inputs: the arguments that a model is called with."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor


class Example(NamedTuple):
    """Positional and keyword arguments of a model."""

    args: tuple
    kwargs: dict[str, Any]


def as_example(inputs: Any) -> Example:
    """Return the arguments that a user gives as a tensor, a tuple or list of arguments, or a dict of keyword arguments."""
    if isinstance(inputs, dict):
        return Example((), inputs)
    return Example(tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,), {})


def map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Return a copy of nested tuples, lists and dicts with a function applied to every tensor."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return type(value)({key: map_tensors(item, function) for key, item in value.items()})
    if isinstance(value, tuple) and hasattr(value, '_fields'):
        return type(value)(*(map_tensors(item, function) for item in value))
    if isinstance(value, (list, tuple)):
        return type(value)(map_tensors(item, function) for item in value)
    return value


def tensors(value: Any) -> list[Tensor]:
    """Return every tensor in nested tuples, lists and dicts."""
    found: list[Tensor] = []

    def note(x: Tensor) -> Tensor:
        found.append(x)
        return x

    map_tensors(value, note)
    return found


def doubled(example: Example) -> Example:
    """Return an example in which the height and width of every floating-point map or image ``(B, C, H, W)`` are doubled."""

    def double(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2) if x.dim() == 4 and x.is_floating_point() else x

    return map_tensors(example, double)
