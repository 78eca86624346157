"""DySample as one operator, from the map and the raw output of its layers, which saves only its inputs for the backward pass.

Autograd would save the coordinates of every sampling point, and the tensors that they were computed from, for the backward pass. The
operator ``mmdysample::sample`` saves only its inputs, which exist anyway, and computes the coordinates again: by Triton kernels, or by the
functions of :mod:`mmdysample.functional.dysample`. As an operator of ``torch.library`` it is one node of a compiled graph. Gradients of
gradients are computed by the functions of :mod:`mmdysample.functional.dysample`, as often as ``grid_sample`` is differentiable.

"Raw" means the output of the offset or scope layer, before :func:`~mmdysample.functional.sampling_offset` turns it into sampling points.
"""

from functools import partial
from typing import Any, Optional

import torch
from torch import Tensor
from torch.library import custom_op

from .dysample import check_shapes, dysample, sampling_grid, sampling_offset
from .finite import finite_or_centre
from .layout import output_format
from .rows import rows_pay
from .second_order import differentiable_gradients

BILINEAR, BORDER = 0, 1  # the numbers of these two modes in the arguments of aten::grid_sampler_2d


@custom_op('mmdysample::sample', mutates_args=())
def sample(
    x: Tensor, offset: Tensor, scope: Optional[Tensor], position: Tensor, scope_factor: float, s: int, groups: int, fused: bool
) -> Tensor:
    """Upsample ``(B, C, H, W)`` to ``(B, C, s*H, s*W)``, of the dtype of ``x``.

    Args:
        x: ``(B, C, H, W)``, any floating dtype and memory format.
        offset: ``(B, 2*g*s*s, H, W)``, the raw offset.
        scope: The raw scope, of the same shape; None for a static scope.
        position: ``(1, 2*g*s*s, 1, 1)``, such as :func:`~mmdysample.functional.initial_position`.
        scope_factor: As in :func:`~mmdysample.functional.sampling_offset`.
        s: The scale factor.
        groups: The number of groups ``g``.
        fused: Whether to use the Triton kernels, which compute in float32 and keep the memory format of ``x``. Otherwise
            :func:`~mmdysample.functional.dysample` computes the output.

    Raises:
        ValueError: The channels are not divisible by ``groups``, an argument does not have the shape above, or the tensors are on
            different devices.
    """
    _check_devices(x, offset, scope, position)
    check_shapes(x, offset, s, groups)  # with wrong shapes, the kernels would read out of bounds
    points = offset.shape[1]
    if scope is not None and scope.shape != offset.shape:
        raise ValueError(f'scope must have the shape of offset, {tuple(offset.shape)}, got {tuple(scope.shape)}')
    if position.shape != (1, points, 1, 1):
        raise ValueError(f'position must have the shape (1, 2*groups*s*s, 1, 1) = {(1, points, 1, 1)}, got {tuple(position.shape)}')
    if fused:
        from mmdysample.functional.kernels.launch import sample_fused

        return sample_fused(x, offset, scope, position, scope_factor, s, groups)
    return sample_plainly(x, offset, scope, position, scope_factor, s, groups)


def sample_plainly(
    x: Tensor, offset: Tensor, scope: Optional[Tensor], position: Tensor, scope_factor: float, s: int, groups: int
) -> Tensor:
    """Return what :func:`sample` returns, by operations that autograd differentiates."""
    return dysample(x, sampling_offset(offset, scope, position, scope_factor), s, groups)


def _check_devices(x: Tensor, *others: Optional[Tensor]) -> None:
    # One tensor on meta would send the call to the fake implementation, which returns uninitialised memory of the device of x.
    devices = [x.device, *(t.device for t in others if t is not None)]
    if any(device != devices[0] for device in devices):
        raise ValueError(f'all tensors must be on one device, got {", ".join(map(str, devices))}')


@custom_op('mmdysample::sample_backward', mutates_args=())
def sample_backward(
    grad: Tensor,
    x: Tensor,
    offset: Tensor,
    scope: Optional[Tensor],
    position: Tensor,
    scope_factor: float,
    s: int,
    groups: int,
    fused: bool,
    of_x: bool,
    of_points: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of ``x``, raw ``offset`` and raw ``scope`` from the gradient of the output.

    ``of_x`` requests the gradient of ``x``, and ``of_points`` those of ``offset`` and ``scope``. A gradient that was not requested, and
    that of a missing ``scope``, is an empty tensor, because an operator cannot return None.
    """
    _check_devices(x, grad, offset, scope, position)
    if fused:
        from mmdysample.functional.kernels.launch import sample_fused_backward

        return sample_fused_backward(grad, x, offset, scope, position, scope_factor, s, groups, of_x, of_points)
    batch, channels = x.shape[:2]
    distance = sampling_offset(offset, scope, position, scope_factor)
    dtype = torch.promote_types(x.dtype, distance.dtype)
    grid = sampling_grid(distance.to(dtype), s, groups)
    # A point that is NaN or infinite has no gradient. Of the distances and of the grid, only this mask is kept for the gradients.
    broken = distance != finite_or_centre(distance)
    del distance
    fold = lambda t: t.to(dtype).reshape(batch * groups, channels // groups, *t.shape[2:])  # noqa: E731
    grad_x, grad_grid = torch.ops.aten.grid_sampler_2d_backward(fold(grad), fold(x), grid, BILINEAR, BORDER, False, [of_x, of_points])
    del grid
    nothing = x.new_empty(0)
    grad_x = grad_x.reshape(x.shape).to(x.dtype) if of_x else nothing
    if not of_points:
        return grad_x, nothing.clone(), nothing.clone()
    grad_offset, grad_scope = _through_the_grid(grad_grid, broken, offset, scope, scope_factor, s, groups)
    return grad_x, grad_offset, nothing.clone() if grad_scope is None else grad_scope


def _through_the_grid(
    grad_grid: Tensor, broken: Tensor, offset: Tensor, scope: Optional[Tensor], scope_factor: float, s: int, groups: int
) -> tuple[Tensor, Optional[Tensor]]:
    """Return the gradients of raw offset and scope from that of the grid: the backward of ``sampling_grid`` and ``sampling_offset``."""
    batch, _, height, width = offset.shape
    points = grad_grid.view(batch, groups, height, s, width, s, 2).permute(0, 6, 1, 3, 5, 2, 4)
    pixel = grad_grid.new_tensor((2 / width, 2 / height)) if width and height else grad_grid.new_zeros(2)
    grad = grad_grid.new_empty(batch, 2, groups, s, s, height, width)
    torch.mul(points, pixel.view(1, 2, 1, 1, 1, 1, 1), out=grad)  # out= writes in the right layout and avoids a copy
    grad = grad.view(offset.shape).masked_fill_(broken, 0)
    if scope is None:
        return grad.mul_(scope_factor).to(offset.dtype), None
    gate = scope.to(grad.dtype).sigmoid()
    reach = 2 * scope_factor * gate
    return (grad * reach).to(offset.dtype), grad.mul_(offset).mul_(reach).mul_(1 - gate).to(scope.dtype)


@sample.register_fake
def _sample_fake(
    x: Tensor, offset: Tensor, scope: Optional[Tensor], position: Tensor, scope_factor: float, s: int, groups: int, fused: bool
) -> Tensor:
    _check_devices(x, offset, scope, position)
    batch, channels, height, width = x.shape
    out = x.new_empty(batch, channels, s * height, s * width)
    return out.contiguous(memory_format=output_format(x)) if fused or rows_pay(x) else out


@sample_backward.register_fake
def _sample_backward_fake(
    grad: Tensor,
    x: Tensor,
    offset: Tensor,
    scope: Optional[Tensor],
    position: Tensor,
    scope_factor: float,
    s: int,
    groups: int,
    fused: bool,
    of_x: bool,
    of_points: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    nothing = x.new_empty(0)
    grad_x = x.new_empty(x.shape).contiguous(memory_format=output_format(x) if fused else torch.contiguous_format) if of_x else nothing
    if not of_points:
        return grad_x, nothing.clone(), nothing.clone()
    grads = [
        nothing.clone()
        if t is None
        else t.new_empty(t.shape).contiguous(memory_format=output_format(t) if fused else torch.contiguous_format)
        for t in (offset, scope)
    ]
    return grad_x, grads[0], grads[1]


def _keep_inputs(ctx: Any, inputs: tuple, output: Tensor) -> None:
    x, offset, scope, position, ctx.scope_factor, ctx.s, ctx.groups, ctx.fused = inputs
    ctx.save_for_backward(x, offset, scope, position)


def _backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
    x, offset, scope, position = ctx.saved_tensors
    of_x, of_offset, of_scope = ctx.needs_input_grad[:3]
    if torch.is_grad_enabled():
        plainly = partial(sample_plainly, position=position, scope_factor=ctx.scope_factor, s=ctx.s, groups=ctx.groups)
        return *differentiable_gradients(plainly, (x, offset, scope), (of_x, of_offset, of_scope), grad), None, None, None, None, None
    grads = sample_backward(grad, x, offset, scope, position, ctx.scope_factor, ctx.s, ctx.groups, ctx.fused, of_x, of_offset or of_scope)
    return *(g if needed else None for g, needed in zip(grads, (of_x, of_offset, of_scope))), None, None, None, None, None


sample.register_autograd(_backward, setup_context=_keep_inputs)
