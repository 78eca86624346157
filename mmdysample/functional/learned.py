"""DySample with its offset and scope layers in one autograd function, which adds up the gradient of the map in place.

The map contributes to the output in two ways: it is sampled, and the layers predict from it where to sample. Autograd would compute one
gradient of the size of the map for the sampling and one for each layer, and then add them. Here the gradients through the layers are added
to that of the sampling in place.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from .operators import sample, sample_backward, sample_plainly
from .second_order import differentiable_gradients


def pointwise(x: Tensor, in_channels: int, layer: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a 1x1 convolution to all channels of each pixel, or to each of the ``p`` parts into which a pixel shuffle would split them.

    Pixel shuffle, 1x1 convolution and pixel unshuffle equal one convolution over the parts stacked as rows, which needs no copy of ``x``.

    Args:
        x: ``(B, C, H, W)``.
        in_channels: The input channels of the layer: ``C``, or ``C/p`` for ``p`` parts.
        layer: A 1x1 convolution from ``(B, C/p, p*H, W)`` to ``(B, D, p*H, W)``.

    Returns:
        ``(B, D*p, H, W)``.
    """
    batch, channels, height, width = x.shape
    parts = channels // in_channels
    if parts == 1:
        return layer(x)
    out = layer(x.reshape(batch, in_channels, parts * height, width))
    return out.reshape(batch, out.shape[1] * parts, height, width)


class LearnedSampling(torch.autograd.Function):
    """Upsample by :func:`~mmdysample.functional.operators.sample`, with the raw offset and scope predicted by :func:`pointwise`.

    The function takes the weights of the layers as arguments. It saves the map, the raw offset and the raw scope for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        offset_weight: Tensor,
        offset_bias: Optional[Tensor],
        scope_weight: Optional[Tensor],
        scope_bias: Optional[Tensor],
        position: Tensor,
        scope_factor: float,
        s: int,
        groups: int,
        fused: bool,
    ) -> Tensor:
        # Autocast would cache the cast of a weight that requires a gradient, without its history, for the rest of the forward pass.
        weights = offset_weight.detach(), None if scope_weight is None else scope_weight.detach()
        offset, scope = _predict(x, weights[0], offset_bias), _predict(x, weights[1], scope_bias)
        ctx.save_for_backward(x, offset, scope, position, offset_weight, scope_weight, offset_bias, scope_bias)
        ctx.options = (scope_factor, s, groups, fused)
        ctx.autocast = dict(dtype=torch.get_autocast_dtype(x.device.type), enabled=torch.is_autocast_enabled(x.device.type))
        return sample(x, offset, scope, position, scope_factor, s, groups, fused)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        if torch.is_grad_enabled():
            return *_differentiable_backward(ctx, grad), None, None, None, None, None
        x, offset, scope, position, *weights = ctx.saved_tensors[:6]
        of_x, *of_layers = ctx.needs_input_grad[:5]
        with torch.autocast(x.device.type, enabled=False):
            grad_x, *grad_points = sample_backward(grad, x, offset, scope, position, *ctx.options, of_x, of_x or any(of_layers))
            grads: list[Optional[Tensor]] = []
            for weight, grad_point, needed in zip(weights, grad_points, (of_layers[:2], of_layers[2:])):
                if weight is None:
                    grads += [None, None]
                    continue
                if of_x:
                    _add_product(grad_x, weight, grad_point)
                grads += _layer_gradients(x, weight, grad_point, *needed)
        return grad_x if of_x else None, *grads, None, None, None, None, None


def _predict(x: Tensor, weight: Optional[Tensor], bias: Optional[Tensor]) -> Any:
    """Return the raw output of a layer, or None if there is no layer."""
    return None if weight is None else pointwise(x, weight.shape[1], partial(F.conv2d, weight=weight, bias=bias))


def _differentiable_backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
    """Return the gradients of the map and of the layers' weights, as part of the autograd graph."""
    x, _, _, position, offset_weight, scope_weight, offset_bias, scope_bias = ctx.saved_tensors
    scope_factor, s, groups, _ = ctx.options

    def function(x: Tensor, *layers: Optional[Tensor]) -> Tensor:
        offset, scope = _predict(x, *layers[:2]), _predict(x, *layers[2:])
        return sample_plainly(x, offset, scope, position, scope_factor, s, groups)

    with torch.autocast(x.device.type, **ctx.autocast):
        inputs = (x, offset_weight, offset_bias, scope_weight, scope_bias)
        return differentiable_gradients(function, inputs, ctx.needs_input_grad[:5], grad)


def _add_product(grad_x: Tensor, weight: Tensor, grad: Tensor) -> None:
    """Add the gradient through a layer to the gradient of the map, in place; ``grad`` is the gradient of the layer's output."""
    batch, channels, height, width = grad_x.shape
    out_channels, in_channels = weight.shape[:2]
    parts = channels // in_channels
    columns = parts * height * width
    backwards = weight.view(out_channels, in_channels).mT.to(grad.dtype).expand(batch, -1, -1)
    grad = grad.reshape(batch, out_channels, columns)
    if grad.dtype == grad_x.dtype and (grad_x.is_contiguous() or parts == 1):
        grad_x.view(batch, in_channels, columns).baddbmm_(backwards, grad)
    else:
        grad_x.add_(torch.bmm(backwards, grad).view(batch, channels, height, width))


def _layer_gradients(x: Tensor, weight: Tensor, grad: Tensor, of_weight: bool, of_bias: bool) -> list[Optional[Tensor]]:
    """Return the gradients of a layer's weight and bias, each None unless requested; ``grad`` is the gradient of the layer's output."""
    batch, channels, height, width = x.shape
    out_channels, in_channels = weight.shape[:2]
    columns = channels // in_channels * height * width
    grad = grad.reshape(batch, out_channels, columns)
    grad_weight = grad_bias = None
    if of_weight:
        products = torch.bmm(grad, x.to(grad.dtype).reshape(batch, in_channels, columns).mT)
        grad_weight = products.sum(0).view(weight.shape).to(weight.dtype)
    if of_bias:
        grad_bias = grad.sum((0, 2)).to(weight.dtype)
    return [grad_weight, grad_bias]
