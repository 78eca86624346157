"""The textbook formulation of DySample: its formula as it is usually written in PyTorch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdysample.upsamplers import DySample, DySamplePlus, DySampleS, DySampleSPlus

VARIANTS: dict[str, type[DySample]] = {
    'DySample': DySample,
    'DySample+': DySamplePlus,
    'DySample-S': DySampleS,
    'DySample-S+': DySampleSPlus,
}


class Textbook(nn.Module):
    """Compute DySample step by step, with one pass over memory for each operation.

    For float16 and bfloat16 maps, coordinates and samples are computed in float32, as under autocast: in bfloat16 a point on a map of 200
    pixels would be off by half a pixel.
    """

    def __init__(self, module: DySample) -> None:
        super().__init__()
        self.module = module

    def offsets(self, x: Tensor) -> Tensor:
        """Return the offsets of the sampling points, ``(B, 2*g*s*s, H, W)``, in pixels of ``x``."""
        m = self.module
        if m.style == 'lp':
            raw = m.offset(x)
            return (raw * m.scope(x).sigmoid() * 0.5 if m.scope is not None else raw * 0.25) + m.init_pos
        fine = F.pixel_shuffle(x, m.scale_factor)
        raw = m.offset(fine)
        raw = F.pixel_unshuffle(raw * m.scope(fine).sigmoid() * 0.5 if m.scope is not None else raw * 0.25, m.scale_factor)
        return raw + m.init_pos

    def forward(self, x: Tensor) -> Tensor:
        """Upsample ``(B, C, H, W)`` to ``(B, C, s*H, s*W)``."""
        g, s = self.module.groups, self.module.scale_factor
        b, c, h, w = x.shape
        offset = self.offsets(x).view(b, 2, -1, h, w)
        ys, xs = torch.meshgrid(*(torch.arange(n, device=x.device) + 0.5 for n in (h, w)), indexing='ij')
        centres = torch.stack((xs, ys)).view(1, 2, 1, h, w).to(offset)
        size = torch.tensor((w, h), device=x.device).view(1, 2, 1, 1, 1).to(offset)
        coordinates = 2 * (centres + offset) / size - 1
        coordinates = F.pixel_shuffle(coordinates.reshape(b, -1, h, w), s).view(b, 2, g, s * h, s * w)
        grid = coordinates.permute(0, 2, 3, 4, 1).contiguous().flatten(0, 1)
        maps = x.reshape(b * g, c // g, h, w).to(grid)
        out = F.grid_sample(maps, grid, mode='bilinear', padding_mode='border', align_corners=False)
        return out.view(b, c, s * h, s * w).to(x)
