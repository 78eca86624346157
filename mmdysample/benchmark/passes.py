"""What is called: an upsampler forward, and forward and backward."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .timing import Call

Inputs = tuple[Tensor, ...]  # a map and, where the module is guided, a guide


@dataclass(frozen=True, eq=False)
class Subject:
    """An upsampler with what it is called with.

    Args:
        module: The upsampler.
        inputs: Its inputs.
        gradient: Of its output; dense, as in a network (that of a sum would be one number, repeated by its strides).
    """

    module: nn.Module
    inputs: Inputs
    gradient: Tensor


def forward(subject: Subject) -> Call:
    """Inference."""
    module = subject.module.eval()

    def call() -> None:
        with torch.no_grad():
            module(*subject.inputs)

    return call


def forward_backward(subject: Subject) -> Call:
    """A training step, with gradients of all inputs and parameters, which are gone when it returns."""
    module = subject.module.train()

    def call() -> None:
        leaves = [tensor.detach().requires_grad_() for tensor in subject.inputs]
        module(*leaves).backward(subject.gradient)
        module.zero_grad(set_to_none=True)

    return call


PASSES: dict[str, Callable[[Subject], Call]] = {'forward': forward, 'forward + backward': forward_backward}
