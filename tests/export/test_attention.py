import pytest
import torch
from torch import nn

from mmdysample.export.attention import attend, open_attention


def inputs(batch_first):
    """Query, key and value of different lengths."""
    maps = torch.randn(3, 11, 24, dtype=torch.float64), *torch.randn(2, 3, 5, 24, dtype=torch.float64)
    return maps if batch_first else tuple(t.transpose(0, 1) for t in maps)


@pytest.mark.parametrize('batch_first', [False, True])
@pytest.mark.parametrize('bias', [False, True])
def test_is_that_of_pytorch(bias, batch_first):
    module = nn.MultiheadAttention(24, 3, bias=bias, batch_first=batch_first).double().eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    query, key, value = inputs(batch_first)
    expected = module(query, key, value)[0]
    torch.testing.assert_close(attend(module, query, key, value), expected)
    with open_attention(nn.Sequential(module)):
        got, weights = module(query=query, key=key, value=value)
        assert weights is None
        torch.testing.assert_close(got, expected)
    assert module(query, key, value)[1] is not None


def test_what_it_cannot_do_is_left_to_pytorch():
    module = nn.MultiheadAttention(24, 3).double().eval()
    query, key, value = inputs(False)
    mask = torch.rand(11, 5) < 0.5
    mask[:, 0] = False
    expected = module(query, key, value, attn_mask=mask)[0]
    assert not torch.allclose(expected, attend(module, query, key, value))
    with open_attention(nn.Sequential(module)):
        torch.testing.assert_close(module(query, key, value, attn_mask=mask)[0], expected)
        torch.testing.assert_close(module(query[:, 0], key[:, 0], value[:, 0])[0], module(query, key, value)[0][:, 0])
    for other in (nn.MultiheadAttention(24, 3, add_zero_attn=True), nn.MultiheadAttention(24, 3, kdim=5)):
        with open_attention(nn.Sequential(other)):
            assert 'forward' not in vars(other)
