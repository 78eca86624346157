"""The operations of `ReSFU <https://arxiv.org/abs/2407.02283>`_ (Refreshed Similarity-based Feature Upsampling) between its layers.

Letters are those of :mod:`~mmdysample.functional.dysample`. *Taps* are the ``3 x 3`` neighbours of an output pixel at a distance of ``s``
output pixels, that is, one input pixel, row by row.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .layout import not_a_view
from .reassembly import reassemble

TAPS = 3  # in each direction


def replicate(x: Tensor, margin: int) -> Tensor:
    """Extend a map by ``margin`` copies of its border pixels on each side. Unlike F.pad, it has a deterministic backward pass on CUDA."""
    for dim in (2, 3):
        first, last = x.narrow(dim, 0, 1), x.narrow(dim, x.shape[dim] - 1, 1)
        x = torch.cat((*[first] * margin, x, *[last] * margin), dim)
    return x


def guided_filter(guide: Tensor, x: Tensor, radius: int, eps: float, step: int) -> Tensor:
    """Fit a map to a guide, as the `fast guided filter <https://arxiv.org/abs/1505.00996>`_ does: each channel by itself.

    Args:
        guide: ``(B, E, H, W)``.
        x: The map, of the same shape.
        radius: Windows have ``(2 * radius + 1)**2`` pixels of those below; pixels outside the map do not count.
        eps: Regularises the slope.
        step: The fit is computed on every ``step``-th pixel, and its coefficients are enlarged bilinearly.

    Returns:
        ``(B, E, H, W)``.
    """
    height, width = guide.shape[2:]
    q, k = (t[:, :, ::step, ::step][:, :, : max(height // step, 1), : max(width // step, 1)] for t in (guide, x))
    mean_q, mean_k = _box_mean(q, radius), _box_mean(k, radius)
    slope = (_box_mean(q * k, radius) - mean_q * mean_k) / (_box_mean(q * q, radius) - mean_q * mean_q + eps)
    intercept = mean_k - slope * mean_q
    slope, intercept = _box_mean(slope, radius), _box_mean(intercept, radius)
    if step > 1:
        slope, intercept = (F.interpolate(t, size=(height, width), mode='bilinear') for t in (slope, intercept))
    return slope * guide + intercept


def _box_mean(x: Tensor, radius: int) -> Tensor:
    """Return the mean over the pixels of a window that are inside the map, which is a rectangle: first of its rows, then of its columns."""
    size = 2 * radius + 1
    x = F.avg_pool2d(x, (size, 1), 1, (radius, 0), count_include_pad=False)
    return F.avg_pool2d(x, (1, size), 1, (0, radius), count_include_pad=False)


def gaussian_blur(x: Tensor) -> Tensor:
    """Return a map convolved with a 3x3 Gaussian of standard deviation 1, with replicated borders."""
    weight = torch.exp(-0.5 * torch.arange(-1, 2, device=x.device, dtype=x.dtype) ** 2)
    side, centre, _ = (weight / weight.sum()).unbind()
    x = replicate(x, 1)
    x = side * (x[:, :, :-2] + x[:, :, 2:]) + centre * x[:, :, 1:-1]
    return side * (x[..., :-2] + x[..., 2:]) + centre * x[..., 1:-1]


def paired_difference(key: Tensor, query: Tensor, weight: Tensor, bias: Tensor, distance: int, groups: int) -> Tensor:
    """Convolve the differences of the taps of a key and the centre of a query.

    Args:
        key: ``(B, E, H, W)``.
        query: As ``key``.
        weight: ``(N, E/g, 3, 3)``.
        bias: ``(N,)``.
        distance: The distance of the taps, in pixels. The border is replicated.
        groups: The number of groups ``g``.

    Returns:
        ``(B, N, H, W)``.
    """
    # The sum over taps of weight * (key - query) is a convolution of the key minus one by the sum of the weights of the query.
    of_key = F.conv2d(replicate(key, distance), weight, bias, dilation=distance, groups=groups)
    return of_key - F.conv2d(query, weight.sum((2, 3), keepdim=True), groups=groups)


def attend_to_taps(x: Tensor, scores: Tensor, scale_factor: int) -> Tensor:
    """Upsample a map: each output pixel is a softmax-weighted sum of the taps of the bilinearly upsampled map.

    A tap of the upsampled map is a sum of input pixels with constant weights, so the result is a reassembly of ``5 x 5`` input pixels, and
    the upsampled map is never computed.

    Args:
        x: ``(B, C, H, W)``.
        scores: ``(B, 9, s*H, s*W)``; those of taps outside the map do not count.
        scale_factor: The ratio ``s``.

    Returns:
        ``(B, C, s*H, s*W)``, of the dtype of ``x``; the softmax is in float32 or wider.
    """
    s = scale_factor
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    weight = scores.masked_fill(_outside(scores, s), float('-inf')).softmax(1)
    weight = weight.reshape(weight.shape[0], TAPS, TAPS, *weight.shape[2:])
    weight = _through_interpolation(weight, 2, _shares(scores, s, scores.shape[3]).view(3, 1, -1))
    weight = _through_interpolation(weight, 1, _shares(scores, s, scores.shape[2]).view(3, -1, 1)).flatten(1, 2)
    # Interpolation repeats the border pixels, and reassembly would read zeros there.
    out = reassemble(replicate(x, 1), F.pad(weight, (s,) * 4), s)
    return not_a_view(out[:, :, s:-s, s:-s].contiguous())


def _outside(scores: Tensor, s: int) -> Tensor:
    """Return which taps are outside the map, ``(9, s*H, s*W)``."""
    sides = []
    for size in scores.shape[2:]:
        place = torch.arange(size, device=scores.device)
        sides.append(torch.stack((place < s, place < 0, place >= size - s)))
    return (sides[0].view(3, 1, -1, 1) | sides[1].view(1, 3, 1, -1)).flatten(0, 1)


def _shares(like: Tensor, s: int, size: int) -> Tensor:
    """Return the weights of the previous, the own and the next input pixel of each output pixel along an axis, ``(3, size)``."""
    phase = torch.arange(size, device=like.device) % s
    distance = (phase.to(like.dtype) + 0.5) / s - 0.5
    return torch.stack((F.relu(-distance), 1 - distance.abs(), F.relu(distance)))


def _through_interpolation(weight: Tensor, dim: int, shares: Tensor) -> Tensor:
    """Turn the weights of three taps along a dimension into those of five input pixels."""
    taps = weight.unbind(dim)
    pixels = []
    for i in range(TAPS + 2):
        terms = [taps[t] * shares[i - t] for t in range(TAPS) if 0 <= i - t < 3]
        pixels.append(sum(terms[1:], terms[0]))
    return torch.stack(pixels, dim)
