import pytest
import torch
from conftest import assert_parity, golden_cases
from upsampler_tests import UpsamplerTests

from mmdysample import IndexNet


class TestIndexNet(UpsamplerTests):
    name = 'IndexNet'


@pytest.mark.parametrize(('case', 'golden'), golden_cases('golden_indexnet.npz'))
def test_parity_with_the_authors_implementation(case, golden):
    assert_parity(IndexNet(case['channels']), golden, {'block.indexnet': 'index_block'})


def test_the_hidden_map_saturates_at_six():
    """ReLU6, which the golden vectors do not reach."""
    module = IndexNet(32).eval()
    _, norm, _, project = module.index_block
    torch.nn.init.constant_(norm.bias, 100.0)
    torch.nn.init.constant_(project.weight, 0.01)
    x, guide = torch.ones(1, 32, 3, 4), torch.randn(1, 32, 6, 8)
    expected = torch.tensor(64 * 0.01 * 6).sigmoid().expand(1, 32, 6, 8)
    torch.testing.assert_close(module(x, guide), expected)
