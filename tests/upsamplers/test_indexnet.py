import pytest
from conftest import assert_parity, golden_cases
from upsampler_tests import UpsamplerTests

from mmdysample import IndexNet


class TestIndexNet(UpsamplerTests):
    name = 'IndexNet'


@pytest.mark.parametrize(('case', 'golden'), golden_cases('golden_indexnet.npz'))
def test_parity_with_the_authors_implementation(case, golden):
    assert_parity(IndexNet(case['channels']), golden, {'block.indexnet': 'index_block'})
