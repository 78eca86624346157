"""Linear codes of label windows, from which `DUpsampling <https://arxiv.org/abs/1903.02120>`_ (Tian et al., CVPR 2019) learns to upsample.

A window of ``s x s`` labels of ``K`` classes, one-hot, is a vector ``v`` of ``N = K*s*s`` numbers, ordered as (class, row, column) like the
channels before a pixel shuffle. Neighbouring labels agree, so a few numbers ``P v`` tell nearly all of it: ``W P v ~ v``. ``P`` and ``W``
are the best pair in least squares: the leading right singular vectors of the matrix of all windows, so ``W`` is the transpose of ``P``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

OVERSAMPLING = 16  # directions beyond the wanted ones that the randomised decomposition follows, and how often it refines them
REFINEMENTS = 8


def window_matrix(labels: Tensor, scale_factor: int, num_classes: int) -> Tensor:
    """Write label windows as one-hot rows.

    Args:
        labels: ``(n, s, s)``, integers; for what is no class, such as 255, nothing is set.
        scale_factor: The size ``s`` of a window.
        num_classes: The number of classes ``K``.

    Returns:
        A sparse ``(n, K*s*s)``, float32.
    """
    n, points = len(labels), scale_factor**2
    labels = labels.reshape(n, points).long()
    row, point = ((labels >= 0) & (labels < num_classes)).nonzero(as_tuple=True)
    column = labels[row, point] * points + point
    size = (n, num_classes * points)
    ones = torch.ones(len(row), device=labels.device)
    return torch.sparse_coo_tensor(torch.stack((row, column)), ones, size, check_invariants=False).coalesce()


def fit_codes(windows: Tensor, channels: int) -> Tensor:
    """Find the linear code that reconstructs windows best in least squares.

    Args:
        windows: ``(n, N)``, as of :func:`window_matrix`.
        channels: Numbers ``D`` of the code.

    Returns:
        ``W``, ``(N, D)``, with orthonormal columns; ``P`` is its transpose.

    Raises:
        ValueError: There are fewer windows or numbers in a window than ``channels``.
    """
    n, size = windows.shape
    if channels > min(n, size):
        raise ValueError(
            f'channels must be at most the number of windows and of their values, got {channels=}, {n} windows of {size} values'
        )
    _, _, directions = torch.svd_lowrank(windows, q=min(n, size, channels + OVERSAMPLING), niter=REFINEMENTS)
    return directions[:, :channels].contiguous()


def reconstruct(labels: Tensor, matrix: Tensor, scale_factor: int) -> Tensor:
    """Encode a label map window by window, and decode it: ``argmax(W P v)``.

    Args:
        labels: ``(H, W)``, integers, both sizes multiples of ``s``; what is no class is encoded as zeros.
        matrix: ``W``, ``(K*s*s, D)``.
        scale_factor: The size ``s`` of a window.

    Returns:
        ``(H, W)``, the decoded labels.
    """
    s = scale_factor
    num_classes = len(matrix) // s**2
    height, width = labels.shape
    windows = labels.reshape(height // s, s, width // s, s).transpose(1, 2).reshape(-1, s, s)
    codes = torch.sparse.mm(window_matrix(windows, s, num_classes), matrix)
    decoded = (codes @ matrix.mT).T.reshape(1, num_classes * s * s, height // s, width // s)
    return F.pixel_shuffle(decoded, s).argmax(1)[0]
