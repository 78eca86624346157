"""Gradients that can be differentiated again, for functions whose own backward pass cannot."""

from collections.abc import Callable, Sequence
from typing import Optional

import torch
from torch import Tensor


def differentiable_gradients(
    function: Callable[..., Tensor], inputs: Sequence[Optional[Tensor]], needed: Sequence[bool], grad: Tensor
) -> tuple[Optional[Tensor], ...]:
    """Return the gradients of a function's inputs, as part of the autograd graph.

    The function is computed again from operations that autograd knows, so this takes the time and memory of a second forward pass. It is
    called only where somebody asks for gradients of gradients (``create_graph=True``).

    Args:
        function: From the inputs to the output.
        inputs: Tensors with their history, or None.
        needed: Whether to return the gradient of each input.
        grad: The gradient of the output.

    Returns:
        A gradient for each input; None where it is not needed.
    """
    # An input may depend on another one. Differentiating by aliases gives the partial derivative of each.
    aliases = [None if t is None else t.view_as(t) for t in inputs]
    with torch.enable_grad():
        output = function(*aliases)
        wanted = [alias for alias, need in zip(aliases, needed) if need and alias is not None]
        grads = iter(torch.autograd.grad(output, wanted, grad, create_graph=True))
    return tuple(next(grads) if need else None for need in needed)
