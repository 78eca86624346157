import pytest
import torch
import torch.nn.functional as F
from conftest import assert_parity, golden_cases
from upsampler_tests import CompiledUpsamplerTests, UpsamplerTests

from mmdysample import SAPAB, SAPAD, SAPAI


class TestSAPAI(CompiledUpsamplerTests):
    name = 'SAPA-I'
    reach_of_a_pixel = None  # the norm of a group spreads it over the map


class TestSAPAB(UpsamplerTests):
    name = 'SAPA-B'
    reach_of_a_pixel = None  # the norm of a group spreads it over the map


class TestSAPAD(UpsamplerTests):
    name = 'SAPA-D'
    reach_of_a_pixel = None  # with random weights, points lie anywhere
    memory = (8, 8)
    test_onnx_by_the_capturing_exporter = CompiledUpsamplerTests.test_onnx_by_the_capturing_exporter


@pytest.mark.parametrize(('case', 'golden'), golden_cases('golden_sapa.npz'))
def test_parity_with_the_authors_implementation(case, golden):
    cls = {'SAPA-B': SAPAB, 'SAPA-D': SAPAD}[case['upsampler']]
    assert_parity(cls(case['channels']), golden)


def test_sapa_i_pixel_by_pixel():
    """Against the definition, written out: there are no golden vectors of it."""
    x, guide = torch.randn(1, 64, 3, 4).double(), torch.randn(1, 64, 6, 8).double()
    key, query = F.group_norm(x, 32), F.group_norm(guide, 32)
    expected = torch.zeros_like(guide)
    for i in range(6):
        for j in range(8):
            keys, values = torch.zeros(2, 25, 64).double()
            for n in range(25):
                row, column = i // 2 + n // 5 - 2, j // 2 + n % 5 - 2
                if 0 <= row < 3 and 0 <= column < 4:
                    keys[n], values[n] = key[0, :, row, column], x[0, :, row, column]
            expected[0, :, i, j] = (keys @ query[0, :, i, j]).softmax(0) @ values
    torch.testing.assert_close(SAPAI(64)(x, guide), expected)


def test_sapa_b_takes_a_guide_of_other_channels():
    assert SAPAB(64, guide_channels=32)(torch.randn(1, 64, 3, 4), torch.randn(1, 32, 6, 8)).shape == (1, 64, 6, 8)
    with pytest.raises(ValueError, match='guide_channels must equal in_channels, got in_channels=64, guide_channels=32; SAPA-B takes any'):
        SAPAI(64, guide_channels=32)
    with pytest.raises(ValueError, match='guide_channels must be divisible by 32, got 48'):
        SAPAB(64, guide_channels=48)


def test_the_points_of_sapa_d_start_on_a_grid():
    bias = SAPAD(32).offset.bias.view(4, 9, 2, 4)
    assert {tuple(point) for point in bias[1, :, :, 3].tolist()} == {(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)}


def test_sapa_d_keeps_no_sampled_map_for_the_backward_pass():
    module = SAPAD(64)
    x, guide = torch.randn(1, 64, 24, 24, requires_grad=True), torch.randn(1, 64, 48, 48)
    saved = {}

    def pack(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // 4
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = module(x, guide)
    assert sum(saved.values()) < 9 * out.numel()  # nine sampled maps, and nine keys, would be 18 times the output


@pytest.mark.parametrize(
    ('cls', 'arguments', 'message'),
    [
        (SAPAB, dict(embedding_dim=0), 'embedding_dim must be a positive integer, got 0'),
        (SAPAI, dict(up_kernel=2), 'up_kernel must be odd, got 2'),
        (SAPAD, dict(groups=3), 'in_channels must be divisible by groups, got in_channels=32, groups=3'),
        (SAPAD, dict(num_points=0), 'num_points must be a positive integer, got 0'),
    ],
)
def test_bad_arguments(cls, arguments, message):
    with pytest.raises(ValueError, match=message):
        cls(32, **arguments)
