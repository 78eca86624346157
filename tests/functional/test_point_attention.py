import pytest
import torch

from mmdysample.functional import point_attention
from mmdysample.functional.point_attention import sum_of_samples


def inputs(channels=3, size=(4, 5), out=(6, 7), points=4, batch=2, spread=1.2):
    maps = torch.randn(batch, channels, *size, dtype=torch.float64)
    grid = spread * (2 * torch.rand(points, batch, *out, 2, dtype=torch.float64) - 1)
    return maps, grid, torch.randn(batch, points, *out, dtype=torch.float64)


def loop(maps, grid, weight):
    """One output pixel at a time."""
    out = torch.zeros(*maps.shape[:2], *weight.shape[2:], dtype=torch.float64)
    height, width = maps.shape[2:]
    for p, n, i, j in torch.cartesian_prod(*map(torch.arange, grid.shape[:-1])).tolist():
        x, y = ((grid[p, n, i, j] + 1) * torch.tensor([width, height]) - 1) / 2
        for row in (y.floor(), y.floor() + 1):
            for column in (x.floor(), x.floor() + 1):
                if 0 <= row < height and 0 <= column < width:
                    share = (1 - (y - row).abs()) * (1 - (x - column).abs()) * weight[n, p, i, j]
                    out[n, :, i, j] = out[n, :, i, j] + share * maps[n, :, int(row), int(column)]
    return out


@pytest.fixture(params=['rows', 'points'])
def form(request, monkeypatch):
    """Both forms, whatever the number of channels and of output pixels in a chunk."""
    monkeypatch.setattr(point_attention, 'MIN_CHANNELS', 1 if request.param == 'rows' else 999)
    monkeypatch.setattr(point_attention, 'CHUNK', 20)


@pytest.mark.usefixtures('form')
@pytest.mark.parametrize('spread', [1.2, 30.0])
@pytest.mark.parametrize('size', [(4, 5), (1, 5), (3, 1), (1, 1)])
def test_against_the_slow_loop(size, spread):
    case = [t.requires_grad_() for t in inputs(size=size, spread=spread)]
    got, expected = sum_of_samples(*case), loop(*case)
    torch.testing.assert_close(got, expected)
    grad = torch.randn_like(got)
    pairs = zip(*(torch.autograd.grad(y, case, grad) for y in (got, expected)))
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs)


@pytest.mark.usefixtures('form')
@pytest.mark.parametrize('wanted', [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_gradients_of_some(wanted):
    case = [t.requires_grad_(i in wanted) for i, t in enumerate(inputs())]
    leaves = [t for t in case if t.requires_grad]
    grads = torch.autograd.grad(sum_of_samples(*case).square().sum(), leaves)
    everything = [t.detach().requires_grad_() for t in case]
    expected = torch.autograd.grad(loop(*everything).square().sum(), everything)
    torch.testing.assert_close(grads, tuple(expected[i] for i in wanted))


@pytest.mark.usefixtures('form')
def test_twice_differentiable():
    case = [t.requires_grad_() for t in inputs(size=(3, 3), out=(2, 2), points=2, batch=1)]
    torch.autograd.gradgradcheck(sum_of_samples, case)


@pytest.mark.usefixtures('form')
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_broken_pixel_is_read_where_it_is_only(value):
    maps, _, _ = inputs(size=(4, 4))
    maps[:, :, 0, 0] = value
    grid = torch.full((1, 2, 1, 2, 2), 0.75, dtype=torch.float64)  # the last pixel of a row and a column
    grid[:, :, :, 1] = -3.0  # outside, beside the broken pixel
    got = sum_of_samples(maps, grid, torch.ones(2, 1, 1, 2, dtype=torch.float64))
    torch.testing.assert_close(got[..., 0], maps[:, :, 3:, 3])
    assert (got[..., 1] == 0).all()


@pytest.mark.usefixtures('form')
def test_a_broken_point_spoils_its_own_pixel_only():
    maps, grid, weight = inputs(spread=0.9)
    grid[2, 0, 1, 3] = float('nan')
    out = sum_of_samples(maps, grid, weight)
    broken = torch.zeros(out.shape, dtype=torch.bool)
    broken[0, :, 1, 3] = True
    assert out[~broken].isfinite().all()
    grid[2, 0, 1, 3] = 0.0
    torch.testing.assert_close(out[~broken], sum_of_samples(maps, grid, weight)[~broken], rtol=0, atol=0)


def test_which_form_is_taken(monkeypatch):
    calls = []
    apply = point_attention._SumOfSamples.apply
    monkeypatch.setattr(point_attention._SumOfSamples, 'apply', lambda *tensors: calls.append(tensors[0].shape[1]) or apply(*tensors))
    for channels in (16, 64):
        sum_of_samples(*inputs(channels))
    assert calls == [64]
