"""Linear codes of label windows for `DUpsampling <https://arxiv.org/abs/1903.02120>`_ (Tian et al., CVPR 2019).

A window of ``s x s`` one-hot labels of ``K`` classes is a vector ``v`` of ``N = K*s*s`` numbers, ordered as (class, row, column) like the
channels before a pixel shuffle. Neighbouring labels mostly agree, so a few numbers ``P v`` suffice to reconstruct it: ``W P v ~ v``. The
pair ``P``, ``W`` with the least squared error consists of the leading right singular vectors of the matrix whose rows are all windows.
``W`` is the transpose of ``P``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Of the randomised singular value decomposition: extra directions besides the requested ones, and the number of power iterations.
OVERSAMPLING = 16
REFINEMENTS = 8


def window_matrix(labels: Tensor, scale_factor: int, num_classes: int) -> Tensor:
    """Return label windows as one-hot rows.

    Args:
        labels: ``(n, s, s)``, integers. A label outside ``0 .. K-1``, such as 255, becomes zeros.
        scale_factor: The size ``s`` of a window.
        num_classes: The number of classes ``K``.

    Returns:
        A sparse tensor ``(n, K*s*s)``, float32.
    """
    n, points = len(labels), scale_factor**2
    labels = labels.reshape(n, points).long()
    row, point = ((labels >= 0) & (labels < num_classes)).nonzero(as_tuple=True)
    column = labels[row, point] * points + point
    size = (n, num_classes * points)
    ones = torch.ones(len(row), device=labels.device)
    return torch.sparse_coo_tensor(torch.stack((row, column)), ones, size, check_invariants=False).coalesce()


def fit_codes(windows: Tensor, channels: int) -> Tensor:
    """Return the linear code that reconstructs windows with the least squared error.

    Args:
        windows: ``(n, N)``, as returned by :func:`window_matrix`.
        channels: The number of channels ``D`` of the code.

    Returns:
        ``W``, ``(N, D)``, with orthonormal columns; ``P`` is its transpose.

    Raises:
        ValueError: ``channels`` is larger than the number of windows or of values in a window.
    """
    n, size = windows.shape
    if channels > min(n, size):
        raise ValueError(
            f'channels must be at most the number of windows and of values in each, got {channels=}, {n} windows of {size} values'
        )
    _, _, directions = torch.svd_lowrank(windows, q=min(n, size, channels + OVERSAMPLING), niter=REFINEMENTS)
    return directions[:, :channels].contiguous()


def reconstruct(labels: Tensor, matrix: Tensor, scale_factor: int) -> Tensor:
    """Return a label map that was encoded and decoded window by window: ``argmax(W P v)``.

    Args:
        labels: ``(H, W)``, integers, with ``H`` and ``W`` multiples of ``s``. Labels outside ``0 .. K-1`` are encoded as zeros.
        matrix: ``W``, ``(K*s*s, D)``.
        scale_factor: The size ``s`` of a window.

    Returns:
        ``(H, W)``, int64.
    """
    s = scale_factor
    num_classes = len(matrix) // s**2
    height, width = labels.shape
    windows = labels.reshape(height // s, s, width // s, s).transpose(1, 2).reshape(-1, s, s)
    codes = torch.sparse.mm(window_matrix(windows, s, num_classes), matrix)
    decoded = (codes @ matrix.mT).T.reshape(1, num_classes * s * s, height // s, width // s)
    return F.pixel_shuffle(decoded, s).argmax(1)[0]
