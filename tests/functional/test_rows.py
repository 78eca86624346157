import sys

import pytest
import torch
from reference import dysample_loop

from mmdysample import DySample
from mmdysample.functional import dysample, rows


def channels_last(x):
    return x.contiguous(memory_format=torch.channels_last)


@pytest.fixture
def used(monkeypatch):
    calls = []
    module = sys.modules[dysample.__module__]  # the package has the function under its name
    monkeypatch.setattr(module, 'sample_rows', lambda *a: calls.append(a) or rows.sample_rows(*a))
    return calls


@pytest.mark.parametrize(('shape', 's', 'g'), [((2, 6, 3, 5), 2, 3), ((1, 4, 5, 2), 3, 2), ((3, 8, 1, 4), 4, 1), ((2, 4, 3, 2), 1, 4)])
@pytest.mark.parametrize('spread', [0.5, 3.0, 1e30])
def test_equals_the_slow_loop(used, shape, s, g, spread):
    b, _, h, w = shape
    x, offset = torch.randn(shape, dtype=torch.float64), spread * torch.randn(b, 2 * g * s * s, h, w, dtype=torch.float64)
    got = dysample(channels_last(x), offset, s, g)
    assert len(used) == 1
    assert got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got, dysample_loop(x, offset, s, g))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_any_dtype(used, dtype):
    module = DySample(16, dyscope=True).to(dtype).eval()
    torch.nn.init.normal_(module.offset.weight)
    x = torch.randn(2, 16, 5, 7).to(dtype)
    with torch.no_grad():
        got = module(channels_last(x))
        assert len(used) == 1
        torch.testing.assert_close(got, module(x), rtol=1e-2, atol=1e-2)
    assert got.dtype == dtype


def test_a_contiguous_map_has_no_rows(used):
    module = DySample(16).eval()
    with torch.no_grad():
        assert module(torch.randn(2, 16, 5, 7)).is_contiguous()
    assert not used


def test_only_what_was_measured_takes_rows():
    assert rows.rows_pay(channels_last(torch.empty(1, 4, 3, 5)))
    assert not rows.rows_pay(channels_last(torch.empty(1, 4, 3, 5, device='meta')))


def test_gradients_go_the_other_way(used):
    x = channels_last(torch.randn(1, 4, 3, 5, dtype=torch.float64)).requires_grad_()
    offset = torch.randn(1, 16, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: dysample(a, b, 2, 2), (x, offset))
    assert not used


def test_training_in_channels_last_gets_them_too(used):
    """The operator's forward pass is not differentiated; its backward pass is its own."""
    module, x = DySample(16).double(), torch.randn(2, 16, 5, 7, dtype=torch.float64)
    results = []
    for leaf in (x.clone(), channels_last(x)):
        y = module(leaf.requires_grad_())
        results.append((y, *torch.autograd.grad(y.square().sum(), [leaf, *module.parameters()])))
    assert len(used) == 1
    torch.testing.assert_close(*results)


def test_nan_samples_the_centre_of_its_pixel():
    x, offset = torch.randn(1, 4, 3, 5), torch.zeros(1, 16, 3, 5)
    offset[0, 0] = float('nan')
    assert dysample(channels_last(x), offset, 2, 2).isfinite().all()


def test_empty_batch():
    assert dysample(torch.empty(0, 4, 3, 5).to(memory_format=torch.channels_last), torch.empty(0, 16, 3, 5), 2, 2).shape == (0, 4, 6, 10)


@pytest.mark.parametrize(('indices', 'dtype'), [(2**31 - 1, torch.int32), (2**31, torch.int64)])
def test_indices_are_counted_in_their_own_dtype(indices, dtype):
    """As ``embedding_bag`` does, and not by the rows of its table, which are 4*s*s times fewer."""
    assert rows.index_dtype(indices) == dtype
