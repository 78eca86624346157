"""An example of a model of another library: the model, its inputs at any size, and a loss."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

HEIGHT, WIDTH = 128, 192  # also 1.5 times these can be divided by 32, which many models ask for


def flat_tensors(value: Any) -> list[Tensor]:
    """Return the tensors in nested dicts, lists and tuples, in their order."""
    if isinstance(value, Tensor):
        return [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for child in children for tensor in flat_tensors(child)]


def flat_floats(value: Any) -> tuple[Tensor, ...]:
    """Return the floating-point tensors of :func:`flat_tensors`."""
    return tuple(tensor for tensor in flat_tensors(value) if tensor.is_floating_point())


def two_images(height: int, width: int) -> tuple[Tensor]:
    """Return two random images, which batch norms can be trained with even where a map has a single pixel."""
    return (torch.randn(2, 3, height, width),)


class Example(NamedTuple):
    """A model and how it is called.

    Attributes:
        model: The model.
        at: Returns the positional arguments of a call for images of a height and a width.
        has_features: Whether the outputs are feature maps, so that none of them is a class map.
    """

    model: nn.Module
    at: Callable[[int, int], tuple[Any, ...]] = two_images
    has_features: bool = False

    def loss(self, inputs: tuple[Any, ...]) -> Tensor:
        """Return the sum of the mean squares of all outputs."""
        return torch.stack([out.square().mean() for out in flat_floats(self.model(*inputs))]).sum()


def normalise(example: Example) -> None:
    """Set the statistics of the batch norms to those of a batch.

    With the initial statistics the features of an image shrink to almost zero in some models; then all scores of a detector are equal, and
    each runtime picks other ones of them.
    """
    norms = [module for module in example.model.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    example.model.train()
    with torch.no_grad():
        example.model(*example.at(HEIGHT, WIDTH))
    for norm, momentum in zip(norms, before):
        norm.momentum = momentum
    example.model.eval()
