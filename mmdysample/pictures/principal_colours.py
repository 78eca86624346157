"""Show feature maps as colours, by their principal components."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class PrincipalColours(NamedTuple):
    """The first three principal components of a feature map, as red, green and blue."""

    mean: Tensor  # (C,)
    components: Tensor  # (C, 3), orthonormal; columns of zeros if C < 3
    low: Tensor  # (3,): the score that is drawn black
    high: Tensor  # (3,): the score that is drawn in full colour
    explained: float  # share of the variance of the map, from 0 to 1

    def __call__(self, x: Tensor) -> np.ndarray:
        """Colour a map.

        Args:
            x: ``(1, C, H, W)``, the fitted map or another with the same channels.

        Returns:
            ``(H, W, 3)``, float, from 0 to 1.
        """
        scores = (_pixels(x) - self.mean) @ self.components
        colours = ((scores - self.low) / (self.high - self.low).clamp_min(1e-12)).clamp(0, 1)
        return colours.view(*x.shape[2:], 3).float().numpy()


def fit_colours(x: Tensor) -> PrincipalColours:
    """Fit colours to a feature map.

    Args:
        x: ``(1, C, H, W)``, any dtype.

    Returns:
        The colours. They span the 1st to the 99th percentile of each component, so that outliers do not use up the contrast.
    """
    pixels = _pixels(x)
    mean = pixels.mean(0)
    centred = pixels - mean
    variances, vectors = torch.linalg.eigh(centred.T @ centred / len(pixels))
    components = vectors.flip(1)[:, :3]
    # The sign of a component is arbitrary; make its largest weight positive, so that pictures are reproducible.
    components = components * components.gather(0, components.abs().argmax(0, keepdim=True)).sign()
    components = torch.nn.functional.pad(components, (0, 3 - components.shape[1]))
    scores = centred @ components
    low, high = (scores.quantile(q, dim=0) for q in (0.01, 0.99))
    total = float(variances.clamp_min(0).sum())
    explained = float(variances.flip(0)[:3].clamp_min(0).sum()) / total if total else 1.0
    return PrincipalColours(mean, components, low, high, explained)


def _pixels(x: Tensor) -> Tensor:
    """Return the pixels of a map as rows, ``(H*W, C)``, float64."""
    return x[0].flatten(1).T.cpu().double()
