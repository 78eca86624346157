import pytest
import torch
from upsampler_tests import UpsamplerTests

from mmdysample import DUpsample


class TestDUpsample(UpsamplerTests):
    name = 'DUpsample'


def test_starts_as_nearest_neighbours():
    x = torch.randn(1, 8, 3, 4)
    torch.testing.assert_close(DUpsample(8, 3)(x), x.repeat_interleave(3, 2).repeat_interleave(3, 3))
    torch.testing.assert_close(DUpsample(8, 2, out_channels=5)(x)[:, :, ::2, ::2], x[:, :5])


def test_reads_a_fitted_matrix(tmp_path):
    matrix = torch.randn(12, 8)
    path = tmp_path / 'matrix.pth'
    torch.save({'W': matrix, 'P': matrix.T.contiguous()}, path)
    module = DUpsample(8, 2, out_channels=3, matrix=str(path), freeze=True)
    module.init_weights()
    torch.testing.assert_close(module.expand.weight[:, :, 0, 0], matrix)
    assert not module.expand.weight.requires_grad
    assert DUpsample(8, 2).expand.weight.requires_grad
    with pytest.raises(ValueError, match=r'the matrix must have 4 \* 2\*\*2 rows, 8 columns, got \(12, 8\) in .*matrix.pth'):
        DUpsample(8, 2, out_channels=4, matrix=str(path)).init_weights()


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(ValueError, match='there is no matrix file nowhere.pth: make one with tools/fit_dupsample.py'):
        DUpsample(8, matrix='nowhere.pth').init_weights()
    for content in (b'', b'text'):
        path = tmp_path / 'broken.pth'
        path.write_bytes(content)
        with pytest.raises(ValueError, match='broken.pth was not written by tools/fit_dupsample.py'):
            DUpsample(8, matrix=str(path)).init_weights()
    torch.save({'weights': 1}, path)
    with pytest.raises(ValueError, match='was not written by tools/fit_dupsample.py .* make it again'):
        DUpsample(8, matrix=str(path)).init_weights()


def test_bad_arguments():
    with pytest.raises(ValueError, match='out_channels must be a positive integer, got 0'):
        DUpsample(8, out_channels=0)
