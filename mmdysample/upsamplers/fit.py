"""Upsampling between the levels of a feature pyramid, for necks and heads."""

from collections.abc import Sequence
from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import ShapeError
from .builder import build_upsampler
from .containers import ModuleList

RATIO = 2  # between neighbouring levels of a pyramid


def build_steps(
    cfg: dict[str, Any], channels: int, count: int, preferred: Optional[dict[str, Any]] = None, guide_channels: Optional[int] = None
) -> ModuleList:
    """Return a list of x2 upsamplers, one for each step from a level of a feature pyramid to the next finer level.

    Args:
        cfg: The config of the upsampler, with a ``type``.
        channels: Channels of every level.
        count: The number of steps.
        preferred: As in :func:`~mmdysample.build_upsampler`.
        guide_channels: Channels of the guide. The default is ``channels``.

    Returns:
        The upsamplers, in a list that passes ``init_weights`` on to each.

    Raises:
        ValueError: The upsampler is unknown, does not support ``channels``, or has a ``scale_factor`` other than 2.
    """
    if cfg.get('scale_factor', RATIO) != RATIO:
        raise ValueError(f'each level is twice as large as the next, so scale_factor must be 2, got {cfg["scale_factor"]}')
    return ModuleList([build_upsampler(cfg, channels, guide_channels=guide_channels, preferred=preferred) for _ in range(count)])


def upsample_as(upsampler: nn.Module, x: Tensor, finer: Tensor) -> Tensor:
    """Upsample a map by 2 to the size of the next finer map, which a guided upsampler takes as its guide.

    Args:
        upsampler: An upsampling layer of ratio 2.
        x: ``(B, C, H, W)``.
        finer: ``(B, C_g, h, w)``. See :func:`upsample_to` for the sizes that are accepted.

    Returns:
        ``(B, C, h, w)``.

    Raises:
        ShapeError: The size of ``finer`` is not accepted.
    """
    return upsample_to(upsampler, x, finer.shape[2:], RATIO, finer if getattr(upsampler, 'guided', False) else None)


def upsample_both(upsampler: nn.Module, x: Tensor, finer: Tensor) -> tuple[Tensor, Tensor]:
    """Upsample a map as :func:`upsample_as` does, for a model that adds or concatenates the result and the finer map.

    Args:
        upsampler: An upsampling layer of ratio 2.
        x: ``(B, C, H, W)``.
        finer: ``(B, C_g, h, w)``.

    Returns:
        The map ``(B, C, h, w)``, and the finer map ``(B, C_g, h, w)``, which an upsampler with ``enhances_guide`` has enhanced.

    Raises:
        ShapeError: The size of ``finer`` is not accepted.
    """
    if not getattr(upsampler, 'enhances_guide', False):
        return upsample_as(upsampler, x, finer), finer
    height, width = finer.shape[2:]
    out, guide = upsampler(*_matched(x, (height, width), RATIO, finer), both=True)
    return out[:, :, :height, :width], guide[:, :, :height, :width]


def upsample_to(upsampler: nn.Module, x: Tensor, size: Sequence[int], ratio: int, guide: Optional[Tensor] = None) -> Tensor:
    """Upsample a map to a size that its ratio does not give exactly, because the model rounded an odd size when it shrank the map.

    If the model rounded up (25 rows became 13), the output is cropped. If it rounded down, as max pooling and convolutions without padding
    do (65 rows became 32), the map is first extended by its last row or column, and the output is then cropped. Every pixel thus stays
    where it is for an even size. Resizing the output to the odd size would instead move the pixels, the last one by a whole pixel.
    ``tests/upsamplers/test_fit.py`` measures both on a smooth picture of 33 to 67 rows. The mean error of bilinear upsampling is:

    ==========================================  =========  =======
    the model shrank the picture by             extension  resizing
    ==========================================  =========  =======
    2x2 average, as ConvNeXt and PVT do         0.0070     0.0260
    4x4 average                                 0.0251     0.0528
    2x2 maximum                                 0.0259     0.0268
    3x3 weighted average, stride 2, no padding  0.0248     0.0208
    ==========================================  =========  =======

    In the last case, the map is half a pixel off for every size.

    Args:
        upsampler: An upsampling layer of ratio ``s``.
        x: ``(B, C, H, W)``.
        size: ``(h, w)``, with ``s*H - s < h <= s*H + s``, and the same for the width.
        ratio: The ratio ``s``.
        guide: ``(B, C_g, h, w)``, for a guided upsampler.

    Returns:
        ``(B, C, h, w)``.

    Raises:
        ShapeError: ``size`` is not in this range, or the upsampler has another ratio.
    """
    x, *guides = _matched(x, size, ratio, guide)
    out = upsampler(x, *guides)
    made = [ratio * have for have in x.shape[2:]]
    if any(have != want for have, want in zip(out.shape[2:], made)):
        raise ShapeError(f'the upsampler must enlarge a map by {ratio}, but made {by(out.shape[2:])} of {by(x.shape[2:])}')
    return out[:, :, : size[0], : size[1]]


def _matched(x: Tensor, size: Sequence[int], ratio: int, guide: Optional[Tensor]) -> list[Tensor]:
    """Return a map and its guide, if there is one, extended so that their sizes are in the ratio and cover ``size``.

    Raises:
        ShapeError: ``size`` is not in the range of :func:`fits`.
    """
    if not fits(ratio, x.shape[2:], size):
        raise ShapeError(why_unfit(ratio, x.shape[2:], size))
    x = _extend(x, [_rows_to_add(ratio, have, want) for have, want in zip(x.shape[2:], size)])
    if guide is None:
        return [x]
    return [x, _extend(guide, [ratio * have - want for have, want in zip(x.shape[2:], guide.shape[2:])])]


def fits(ratio: int, size: Sequence[int], target: Sequence[int]) -> bool:
    """Return True if ``target`` is ``ratio`` times ``size``, up to ``ratio - 1`` pixels less or ``ratio`` pixels more.

    ``ratio - 1`` is the most that is lost or added when a size is divided by the ratio and rounded. One pixel more than that can be lost to
    a 3x3 convolution of stride 2 without padding (66 rows become 32).
    """
    return all(-ratio < want - ratio * have <= ratio for have, want in zip(size, target))


def why_unfit(ratio: int, size: Sequence[int], target: Sequence[int]) -> str:
    """Return the message about a target that :func:`fits` refuses."""
    return (
        f'{by(size)} cannot become {by(target)} with x{ratio}: it can become {by([ratio * n for n in size])}, and each side may be up to '
        f'{_pixels(ratio - 1)} shorter or {_pixels(ratio)} longer'
    )


def by(size: Sequence[int]) -> str:
    """Return a size as text, such as ``'32x48'``."""
    return 'x'.join(str(int(n)) for n in size)


def _pixels(count: int) -> str:
    return f'{count} pixel{"s" * (count != 1)}'


def _rows_to_add(ratio: int, have: int, want: int) -> int:
    missing = want - ratio * have
    # A traced graph also runs at other sizes, so the number of rows stays a formula in it; it is 0 if nothing is missing.
    return (missing + ratio - 1) // ratio if torch.jit.is_tracing() or missing > 0 else 0


def extend(x: Tensor, rows: int, columns: int) -> Tensor:
    """Extend a map by repeating its last row and column."""
    return F.pad(x, (0, columns, 0, rows), mode='replicate')


def _extend(x: Tensor, added: Sequence[int]) -> Tensor:
    # A traced graph always pads, because it may run at a size at which something is missing.
    return extend(x, *added) if torch.jit.is_tracing() or any(count > 0 for count in added) else x
