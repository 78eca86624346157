import contextvars
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from mmdysample.export import without_grid_sample
from mmdysample.functional import bilinear, deformable_attention, dysample, sample_bilinear
from mmdysample.functional.bilinear import PADDING_MODES, sample_by_gathers, sample_clamped

SIZES = [(1, 1), (1, 5), (7, 4), (13, 30)]


def inputs(size, dtype=torch.float64):
    """Points on the map, and near and far beyond it."""
    maps, grid = torch.randn(3, 5, *size, dtype=dtype), torch.randn(3, 6, 11, 2, dtype=dtype) * 1.2
    grid[0, 1], grid[0, 2] = torch.tensor([1e30, -1e30]).to(dtype)
    return maps, grid


def results(function, maps, grid):
    """What it gives, and its gradients."""
    maps, grid = maps.clone().requires_grad_(), grid.clone().requires_grad_()
    out = function(maps, grid)
    out.backward(torch.arange(out.numel(), dtype=out.dtype).cos().view_as(out))
    return out.detach(), maps.grad, grid.grad


FORMS = {'clamped': (sample_clamped, 'border')} | {
    f'gathers, {mode}': (lambda maps, grid, mode=mode: sample_by_gathers(maps, grid, mode), mode) for mode in PADDING_MODES
}


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('form', FORMS)
def test_equals_grid_sample_with_its_gradients(form, size):
    function, mode = FORMS[form]
    maps, grid = inputs(size)
    got = results(function, maps, grid)
    expected = results(lambda *args: F.grid_sample(*args, padding_mode=mode, align_corners=False), maps, grid)
    for ours, theirs in zip(got, expected):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize('mode', PADDING_MODES)
def test_gradients_of_gradients_with_any_torch(monkeypatch, mode):
    """torch before 2.12 has none of ``grid_sample``."""
    monkeypatch.setattr(bilinear, 'TWICE_DIFFERENTIABLE', False)
    maps, grid = (t.requires_grad_() for t in inputs((4, 3)))
    call = partial(sample_bilinear, padding_mode=mode)
    torch.testing.assert_close(
        results(call, maps.detach(), grid.detach()),
        results(lambda *args: F.grid_sample(*args, padding_mode=mode, align_corners=False), maps.detach(), grid.detach()),
    )
    maps, grid = maps[:1, :, :2], grid[:1, :1, 3:6] / 4
    torch.autograd.gradgradcheck(call, (maps, grid))
    by_points = torch.func.grad(lambda grid: call(maps, grid).square().sum())
    twice = torch.func.grad(lambda grid: by_points(grid).square().sum())(grid)
    (gradient,) = torch.autograd.grad(call(maps, grid).square().sum(), grid, create_graph=True)
    torch.testing.assert_close(twice, torch.autograd.grad(gradient.square().sum(), grid)[0])


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_beyond_the_map_is_the_border_itself(form, dtype):
    """To the bit, whatever the size does to the coordinates; or nothing, far beyond."""
    function, mode = FORMS[form]
    signs = torch.tensor([(-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)], dtype=dtype).expand(3, 1, -1, -1)
    for size in [(h, w) for h in range(1, 60, 7) for w in range(2, 300, 23)]:
        maps = torch.randn(3, 2, *size, dtype=dtype)
        corners = torch.stack([maps[:, :, y, x] for x in (0, -1) for y in (0, -1)], dim=2).unsqueeze(2)
        for beyond in (1, 1.7, 1e30, float('inf')):
            if mode == 'border':
                assert torch.equal(function(maps, signs * beyond), corners), (size, beyond)
            elif beyond > 1e3:
                assert not function(maps, signs * beyond).any(), (size, beyond)


def test_no_number_is_no_index():
    maps, grid = torch.randn(1, 2, 3, 4), torch.full((1, 1, 1, 2), float('nan'))
    for mode in PADDING_MODES:
        assert sample_by_gathers(maps, grid, mode).shape == (1, 2, 1, 1)


def test_half_precision_and_empty_batches():
    for dtype in (torch.float16, torch.bfloat16):
        maps, grid = inputs((7, 4), dtype)
        assert sample_by_gathers(maps, grid).dtype == dtype
    maps, grid = inputs((7, 4))
    assert sample_by_gathers(maps[:0], grid[:0]).shape == (0, 5, 6, 11)


@pytest.fixture
def no_grid_sample(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError('grid_sample was called')

    monkeypatch.setattr(F, 'grid_sample', refuse)


def dysample_inputs():
    return torch.randn(2, 8, 5, 7), torch.randn(2, 16, 5, 7), 2, 2


def attention_inputs():
    fine = (10, 14)
    return torch.randn(2, 8, *fine), torch.randn(2, 8, 5, 7), torch.randn(2, 8, 5, 7), torch.randn(2, 36, *fine), 2, 2


@pytest.mark.parametrize(('function', 'make'), [(dysample, dysample_inputs), (deformable_attention, attention_inputs)])
def test_the_switch_reaches_all_that_sample(function, make, request):
    arguments = make()
    expected = function(*arguments)
    request.getfixturevalue('no_grid_sample')
    with pytest.raises(AssertionError, match='grid_sample was called'):
        function(*arguments)
    with without_grid_sample():
        torch.testing.assert_close(function(*arguments), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(AssertionError, match='grid_sample was called'):
        function(*arguments)


def test_the_switch_is_of_its_thread(no_grid_sample):
    with without_grid_sample(), pytest.raises(AssertionError, match='grid_sample was called'):
        contextvars.Context().run(dysample, *dysample_inputs())


def test_a_device_that_pads_no_borders_gets_clamped_points(monkeypatch):
    """MPS itself is not here; what it is given is."""
    maps, grid = inputs((7, 4))
    expected = sample_bilinear(maps, grid)
    monkeypatch.setattr(bilinear, 'pads_borders', lambda device: False)
    calls, stock = [], F.grid_sample
    monkeypatch.setattr(F, 'grid_sample', lambda *args, **kwargs: (calls.append(kwargs['padding_mode']), stock(*args, **kwargs))[1])
    torch.testing.assert_close(sample_bilinear(maps, grid), expected)
    sample_bilinear(maps, grid, 'zeros')
    assert calls == ['zeros', 'zeros']


def test_which_devices_pad_borders():
    assert [bilinear.pads_borders(torch.device(name)) for name in ('cpu', 'cuda', 'mps')] == [True, True, False]


def test_bad_padding():
    with pytest.raises(ValueError, match="padding_mode must be 'border' or 'zeros', got 'reflection'"):
        sample_bilinear(*inputs((3, 4)), 'reflection')


@pytest.mark.parametrize('mode', PADDING_MODES)
def test_deterministic_algorithms_gather_where_grid_sample_has_none(mode, monkeypatch):
    calls = []
    monkeypatch.setattr(bilinear, 'sample_by_gathers', lambda *args: calls.append(args) or sample_by_gathers(*args))
    monkeypatch.setattr(bilinear, 'has_no_deterministic_backward', lambda device: device.type == 'cpu')
    maps, grid = inputs((7, 4))
    expected = results(lambda *args: sample_bilinear(*args, mode), maps, grid)
    assert not calls
    torch.use_deterministic_algorithms(True)
    try:
        got = results(lambda *args: sample_bilinear(*args, mode), maps, grid)
    finally:
        torch.use_deterministic_algorithms(False)
    assert len(calls) == 1
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
