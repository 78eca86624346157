"""PyTorch's attention, written in operations whose sizes exporters can leave dynamic."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Optional

import torch.nn.functional as F
from torch import Tensor, nn


@contextmanager
def open_attention(model: nn.Module) -> Iterator[None]:
    """Compute every :class:`torch.nn.MultiheadAttention` of a model by :func:`attend`, where its options allow it.

    PyTorch's own code fixes the number of keys when it is traced, and needs a batch of at least two when ``torch.export`` captures it.
    """
    found = [module for module in model.modules() if type(module) is nn.MultiheadAttention and _is_plain(module)]
    for module in found:
        module.forward = partial(_forward, module)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in found:
            del module.forward


def attend(module: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return the output of a :class:`torch.nn.MultiheadAttention` in evaluation mode without masks.

    Args:
        module: The module. It must have one embedding size for query, key and value, and neither ``bias_k`` nor ``add_zero_attn``.
        query: ``(L, B, E)``, or ``(B, L, E)`` if the module has ``batch_first``.
        key: ``(S, B, E)``, or ``(B, S, E)``.
        value: ``(S, B, E)``, or ``(B, S, E)``.

    Returns:
        ``(L, B, E)``, or ``(B, L, E)`` if the module has ``batch_first``.
    """
    # Transpose first: a linear layer checks whether its input is contiguous, which for (L, B, E) can depend on the batch size.
    if not module.batch_first:
        query, key, value = (t.transpose(0, 1) for t in (query, key, value))
    weights = module.in_proj_weight.chunk(3)
    biases = module.in_proj_bias.chunk(3) if module.in_proj_bias is not None else (None,) * 3
    heads = (
        F.linear(t, weight, bias).reshape(*t.shape[:2], module.num_heads, module.head_dim)
        for t, weight, bias in zip((query, key, value), weights, biases)
    )
    q, k, v = (t.transpose(1, 2) for t in heads)
    scores = q * module.head_dim**-0.5 @ k.transpose(2, 3)
    out = module.out_proj((scores.softmax(3) @ v).transpose(1, 2).flatten(2))
    return out if module.batch_first else out.transpose(0, 1)


def _forward(module: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
    masked = any(kwargs.get(name) is not None for name in ('key_padding_mask', 'attn_mask'))
    if args or masked or query.dim() != 3:
        return nn.MultiheadAttention.forward(module, query, key, value, *args, **kwargs)
    weights: Optional[Tensor] = None  # no exported model reads the attention weights
    return attend(module, query, key, value), weights


def _is_plain(module: nn.MultiheadAttention) -> bool:
    return module._qkv_same_embed_dim and module.bias_k is None and not module.add_zero_attn
