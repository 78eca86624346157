"""Compute in the backward pass again what would take memory until then.

A compiler decides by itself what to keep, so everything is called directly while one records.
"""

from collections.abc import Callable
from typing import Optional

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from .capture import captured, transformed


def lean(function: Callable[..., Tensor], *inputs: Optional[Tensor]) -> Tensor:
    """Call a function and keep only its inputs for the backward pass."""
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False) if _keeps() else function(*inputs)


def lean_module(module: nn.Module, *inputs: Tensor) -> Tensor:
    """Call a module without random numbers, and keep only its inputs and parameters for the backward pass."""
    if not _keeps():
        return module(*inputs)
    parameters = dict(module.named_parameters())

    def call(*tensors: Tensor) -> Tensor:
        # With the parameters of the forward pass, which ``functional_call`` may have replaced for its time only.
        return functional_call(module, dict(zip(parameters, tensors)), tensors[len(parameters) :])

    return lean(call, *parameters.values(), *inputs)


def _keeps() -> bool:
    """Return True if autograd keeps tensors for a backward pass."""
    return torch.is_grad_enabled() and not captured() and not transformed()
