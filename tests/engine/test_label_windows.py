import pytest
import torch

from mmdysample.engine.label_windows import fit_codes, reconstruct, window_matrix


def test_window_matrix_by_hand():
    windows = torch.tensor([[[0, 1], [2, 255]], [[1, 1], [-1, 0]]])
    expected = torch.zeros(2, 12)
    for row, column in ((0, 0), (0, 4 + 1), (0, 8 + 2), (1, 4), (1, 4 + 1), (1, 3)):
        expected[row, column] = 1
    torch.testing.assert_close(window_matrix(windows, 2, 3).to_dense(), expected)


def test_codes_are_the_best_in_least_squares():
    """No code of that length does better than the full decomposition's."""
    labels = torch.randint(0, 3, (50, 20, 20)).float()
    labels = torch.nn.functional.interpolate(labels[:, None], scale_factor=3)[:, 0].long()  # neighbours agree
    windows = window_matrix(labels.unfold(1, 4, 4).unfold(2, 4, 4).reshape(-1, 4, 4), 4, 3)
    matrix = fit_codes(windows, 10)
    torch.testing.assert_close(matrix.T @ matrix, torch.eye(10), rtol=0, atol=1e-4)
    dense = windows.to_dense()
    error = (dense - dense @ matrix @ matrix.T).square().sum()
    best = torch.linalg.svdvals(dense.double())[10:].square().sum()
    assert error.item() == pytest.approx(best.item(), rel=1e-2)


def test_enough_channels_tell_everything():
    labels = torch.randint(0, 3, (12, 16))
    windows = window_matrix(labels.reshape(6, 2, 8, 2).transpose(1, 2).reshape(-1, 2, 2), 2, 3)
    rank = int(torch.linalg.matrix_rank(windows.to_dense()))
    torch.testing.assert_close(reconstruct(labels, fit_codes(windows, rank), 2), labels)
    assert not torch.equal(reconstruct(labels, fit_codes(windows, 2), 2), labels)


def test_reconstruct_goes_through_the_layer():
    """The matrix in a DUpsample gives what :func:`reconstruct` decodes, channel for channel."""
    from mmdysample import DUpsample

    labels = torch.randint(0, 3, (6, 8))
    matrix = torch.randn(12, 5)
    windows = labels.reshape(3, 2, 4, 2).transpose(1, 2).reshape(-1, 2, 2)
    codes = (window_matrix(windows, 2, 3).to_dense() @ matrix).T.reshape(1, 5, 3, 4)
    layer = DUpsample(5, 2, out_channels=3)
    layer.expand.weight.data = matrix[:, :, None, None]
    torch.testing.assert_close(layer(codes).argmax(1)[0], reconstruct(labels, matrix, 2))


def test_too_many_channels():
    with pytest.raises(ValueError, match='got channels=9, 8 windows of 12 values'):
        fit_codes(window_matrix(torch.zeros(8, 2, 2), 2, 3), 9)
