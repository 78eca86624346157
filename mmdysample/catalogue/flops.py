"""Count the multiplications of an upsampler, which the tables of the field call FLOPs: one for each multiply-add.

The count includes convolutions and matrix products, the taps of reassembly and similarity, the four taps of a bilinear sample, and the
element-wise products of gates and index maps. It excludes normalisation, activations, softmax and the computation of coordinates. With
these rules CARAFE's six steps in SegFormer-B1 cost 1.45 G, as published.
"""

from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmdysample.upsamplers import build_upsampler
from mmdysample.upsamplers.builder import UpsampleConfig

CHANNELS = 256
# Low-resolution sizes of the six steps of SegFormer-B1 at 512x512, and how many steps start at each.
SEGFORMER_STEPS = {16: 1, 32: 2, 64: 3}

# torch's counter counts a multiply-add as two operations, so the formulas below must do the same.
FLOPS_PER_MULTIPLICATION = 2


def _per_output(multiplications: int) -> Any:
    """Return a formula for an operator with that many multiplications per output value; only outputs with 4 or more dimensions are maps."""

    def formula(*_: Any, out_shape: Any, **__: Any) -> int:
        return FLOPS_PER_MULTIPLICATION * multiplications * prod(out_shape) if len(out_shape) >= 4 else 0

    return formula


FORMULAS = {
    torch.ops.aten.mul: _per_output(1),
    torch.ops.aten.lerp: _per_output(2),
    torch.ops.aten.upsample_bilinear2d: _per_output(4),
    torch.ops.aten.grid_sampler_2d: _per_output(4),
}


def count_multiplications(module: nn.Module, height: int, width: int, channels: int = CHANNELS, scale_factor: int = 2) -> int:
    """Count the multiplications of an upsampler for one map, and for the enhanced guide of an upsampler that has one.

    Args:
        module: The upsampler. It is moved to the meta device, which computes shapes only.
        height: Rows of the map.
        width: Columns of the map.
        channels: Channels of the map and of the guide.
        scale_factor: The upsampling ratio.
    """
    inputs = [torch.empty(1, channels, height, width, device='meta')]
    if getattr(module, 'guided', False):
        inputs.append(torch.empty(1, channels, scale_factor * height, scale_factor * width, device='meta'))
    counter = FlopCounterMode(display=False, custom_mapping=FORMULAS)
    with torch.no_grad(), counter:
        module.to('meta').eval()(*inputs, **({'both': True} if getattr(module, 'enhances_guide', False) else {}))
    return counter.get_total_flops() // FLOPS_PER_MULTIPLICATION


def segformer_multiplications(cfg: UpsampleConfig) -> int:
    """Return the multiplications of an upsampler in the six steps of SegFormer-B1 at 512x512, with 256 channels."""
    return sum(steps * count_multiplications(build_upsampler(cfg, CHANNELS), size, size) for size, steps in SEGFORMER_STEPS.items())
