"""The two passes that are measured: forward, and forward plus backward."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .timing import Call

Inputs = tuple[Tensor, ...]  # a feature map and, for a guided module, a guide


@dataclass(frozen=True, eq=False)
class Subject:
    """An upsampler with its inputs.

    Args:
        module: The upsampler.
        inputs: Its inputs.
        gradient: The gradient of its output. It is contiguous, as in a network; the gradient of a sum would be one broadcast value.
    """

    module: nn.Module
    inputs: Inputs
    gradient: Tensor


def forward(subject: Subject) -> Call:
    """Return a call of inference, without gradients."""
    module = subject.module.eval()

    def call() -> None:
        with torch.no_grad():
            module(*subject.inputs)

    return call


def forward_backward(subject: Subject) -> Call:
    """Return a call that computes the gradients of all inputs and parameters, and frees them before it returns."""
    module = subject.module.train()

    def call() -> None:
        leaves = [tensor.detach().requires_grad_() for tensor in subject.inputs]
        module(*leaves).backward(subject.gradient)
        module.zero_grad(set_to_none=True)

    return call


PASSES: dict[str, Callable[[Subject], Call]] = {'forward': forward, 'forward + backward': forward_backward}
