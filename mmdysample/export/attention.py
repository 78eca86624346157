"""PyTorch's attention in operations that exporters leave open in size."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Optional

import torch.nn.functional as F
from torch import Tensor, nn


@contextmanager
def open_attention(model: nn.Module) -> Iterator[None]:
    """Let every :class:`torch.nn.MultiheadAttention` of a model be computed by :func:`attend` where it can be.

    Its own code fixes the number of keys when it is traced, and asks for a batch of two or more when it is captured.
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
    """What a :class:`torch.nn.MultiheadAttention` computes in evaluation mode without masks.

    Args:
        module: With one embedding size for query, key and value, and no keys of its own.
        query: ``(L, B, E)``, or ``(B, L, E)`` if the module has ``batch_first``.
        key: ``(S, B, E)``, likewise.
        value: ``(S, B, E)``, likewise.

    Returns:
        ``(L, B, E)``, likewise.
    """
    if not module.batch_first:  # before anything is computed: a layer asks whether its input is contiguous, which depends on the batch
        query, key, value = (t.transpose(0, 1) for t in (query, key, value))
    weights = module.in_proj_weight.chunk(3)
    biases = module.in_proj_bias.chunk(3) if module.in_proj_bias is not None else (None,) * 3
    heads = (
        F.linear(t, weight, bias).unflatten(2, (module.num_heads, -1)) for t, weight, bias in zip((query, key, value), weights, biases)
    )
    q, k, v = (t.transpose(1, 2) for t in heads)
    scores = q * module.head_dim**-0.5 @ k.transpose(2, 3)
    out = module.out_proj((scores.softmax(3) @ v).transpose(1, 2).flatten(2))
    return out if module.batch_first else out.transpose(0, 1)


def _forward(module: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
    masked = any(kwargs.get(name) is not None for name in ('key_padding_mask', 'attn_mask'))
    if args or masked or query.dim() != 3:
        return nn.MultiheadAttention.forward(module, query, key, value, *args, **kwargs)
    weights: Optional[Tensor] = None  # which nothing that is exported reads
    return attend(module, query, key, value), weights


def _is_plain(module: nn.MultiheadAttention) -> bool:
    return module._qkv_same_embed_dim and module.bias_k is None and not module.add_zero_attn
