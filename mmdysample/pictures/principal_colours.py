"""Feature maps as colours."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class PrincipalColours(NamedTuple):
    """The first three principal components of a feature map, as red, green and blue."""

    mean: Tensor  # (C,)
    components: Tensor  # (C, 3), orthonormal; a column of zeros where there is no such component
    low: Tensor  # (3,): what is black
    high: Tensor  # (3,): what is full colour
    explained: float  # share of the variance

    def __call__(self, x: Tensor) -> np.ndarray:
        """Colour a map.

        Args:
            x: ``(1, C, H, W)``, of the map that was fitted to or any other with its channels.

        Returns:
            ``(H, W, 3)``, float, from 0 to 1.
        """
        scores = (_pixels(x) - self.mean) @ self.components
        colours = ((scores - self.low) / (self.high - self.low).clamp_min(1e-12)).clamp(0, 1)
        return colours.view(*x.shape[2:], 3).float().numpy()


def fit_colours(x: Tensor) -> PrincipalColours:
    """Fit colours to a map.

    Args:
        x: ``(1, C, H, W)``, any dtype.

    Returns:
        The colours; from the 1st to the 99th percentile of each component, so that a few pixels do not take all of the contrast.
    """
    pixels = _pixels(x)
    mean = pixels.mean(0)
    centred = pixels - mean
    variances, vectors = torch.linalg.eigh(centred.T @ centred / len(pixels))
    components = vectors.flip(1)[:, :3]
    # A component's sign is arbitrary: its largest weight is positive, so that pictures can be repeated.
    components = components * components.gather(0, components.abs().argmax(0, keepdim=True)).sign()
    components = torch.nn.functional.pad(components, (0, 3 - components.shape[1]))
    scores = centred @ components
    low, high = (scores.quantile(q, dim=0) for q in (0.01, 0.99))
    total = float(variances.clamp_min(0).sum())
    explained = float(variances.flip(0)[:3].clamp_min(0).sum()) / total if total else 1.0
    return PrincipalColours(mean, components, low, high, explained)


def _pixels(x: Tensor) -> Tensor:
    """The pixels of a map as rows, ``(H*W, C)``, float64."""
    return x[0].flatten(1).T.cpu().double()
