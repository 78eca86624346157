import pytest
import torch
from reference import deformable_attention_loop, reassemble_loop, similarity_loop

from mmdysample.functional import deformable_attention, pixel_shuffle, reassemble, similarity, taps, tiles

# Smaller than a tile, a whole number of tiles, and with something left over each way; (height, width, k, s, groups).
CASES = [(1, 1, 5, 2, 1), (3, 2, 5, 2, 2), (4, 8, 3, 2, 1), (5, 9, 5, 2, 1), (9, 7, 3, 3, 2), (2, 11, 7, 1, 1), (6, 5, 1, 4, 1)]
# Square with something left over: the narrow tiles at the right and those below have as many pixels, in another order.
CASES += [(5, 5, 5, 2, 1), (6, 6, 3, 2, 2), (7, 7, 5, 3, 1)]


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.fixture(params=['tiles', 'taps'])
def path(request, monkeypatch):
    """By matrix products over tiles, and as it is exported."""
    if request.param == 'taps':
        monkeypatch.setattr('mmdysample.functional.reassembly.exporting', lambda: True)


@pytest.mark.usefixtures('path')
@pytest.mark.parametrize(('height', 'width', 'k', 's', 'groups'), CASES)
def test_reassemble_against_loops(height, width, k, s, groups):
    x, weight = random(2, 4, height, width), random(2, groups * k * k, s * height, s * width)
    got, expected = reassemble(x, weight, s, groups), reassemble_loop(x, weight, s, groups)
    torch.testing.assert_close(got, expected)
    cotangent = torch.randn_like(got)
    torch.testing.assert_close(torch.autograd.grad(got, (x, weight), cotangent), torch.autograd.grad(expected, (x, weight), cotangent))


@pytest.mark.usefixtures('path')
@pytest.mark.parametrize(('height', 'width', 'k', 's', 'groups'), CASES)
def test_similarity_against_loops(height, width, k, s, groups):
    x, y = random(2, 4, height, width), random(2, 4, s * height, s * width)
    got, expected = similarity(x, y, k, s), similarity_loop(x, y, k, s)
    torch.testing.assert_close(got, expected)
    cotangent = torch.randn_like(got)
    torch.testing.assert_close(torch.autograd.grad(got, (x, y), cotangent), torch.autograd.grad(expected, (x, y), cotangent))


@pytest.mark.parametrize('k', [1, 3, 5])
def test_every_small_size(k, monkeypatch):
    for height in range(1, 11):
        for width in range(1, 11):
            x, weight = random(1, 2, height, width), random(1, k * k, 2 * height, 2 * width)
            got = reassemble(x, weight)
            cotangent = torch.randn_like(got)
            grads = torch.autograd.grad(got, (x, weight), cotangent)
            with monkeypatch.context() as patch:
                patch.setattr('mmdysample.functional.reassembly.exporting', lambda: True)
                expected = reassemble(x, weight)
            torch.testing.assert_close(got, expected)
            torch.testing.assert_close(grads, torch.autograd.grad(expected, (x, weight), cotangent))


def test_chunks_make_no_difference(monkeypatch):
    x, weight = random(2, 3, 13, 9), random(2, 9, 26, 18)
    cotangent = torch.randn(2, 3, 26, 18).double()
    results = []
    for budget in (1, 3000, 10**9):
        monkeypatch.setitem(tiles.CHUNK, 'cpu', budget)
        out = reassemble(x, weight)
        results.append((out, *torch.autograd.grad(out, (x, weight), cotangent)))
    assert len(list(tiles.blocks(x.shape, x.device, 3, 2))) == 4
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


@pytest.mark.parametrize(
    'operation', [lambda x, w, y: reassemble(x, w), lambda x, w, y: similarity(x, y, 3), lambda x, w, y: tiles.spread(y, w, 3, 2)]
)
def test_gradients_of_gradients(operation):
    tensors = (random(1, 2, 2, 5), random(1, 9, 4, 10), random(1, 2, 4, 10))
    assert torch.autograd.gradcheck(operation, tensors, fast_mode=True)
    assert torch.autograd.gradgradcheck(operation, tensors, fast_mode=True)


@pytest.mark.parametrize('operation', [tiles.reassemble, tiles.similarity, tiles.spread])
def test_they_are_proper_operators(operation):
    """Their declared shapes are the real ones, they alias nothing, and their gradients are registered: torch's own checks."""
    small, large, kernels = random(1, 2, 3, 5), random(1, 2, 6, 10), random(1, 9, 6, 10)
    arguments = {tiles.reassemble: (small, kernels), tiles.similarity: (small, large), tiles.spread: (large, kernels)}[operation]
    torch.library.opcheck(operation, (*arguments, 3, 2))


def test_half_precision_sums_in_single():
    x, weight = torch.randn(1, 8, 6, 7), torch.randn(1, 25, 12, 14)
    expected = reassemble(x.bfloat16().double(), weight.bfloat16().double())
    torch.testing.assert_close(reassemble(x.bfloat16(), weight).double(), expected, rtol=1e-2, atol=1e-2)
    assert similarity(x.half(), torch.randn(1, 8, 12, 14).half(), 3).dtype == torch.float32


@pytest.mark.parametrize(
    ('channels', 'shape', 'groups', 'message'),
    [
        (4, (1, 25, 6, 8), 0, 'channels must be divisible by groups, got channels=4, groups=0'),
        (4, (1, 25, 6, 8), 3, 'channels must be divisible by groups, got channels=4, groups=3'),
        (4, (1, 25, 6, 7), 1, r'weight must have the shape \(B, groups\*k\*k, .* got \(1, 25, 6, 7\)'),
        (4, (1, 24, 6, 8), 1, r'with odd k for a map \(1, 4, 3, 4\) with scale_factor=2, groups=1, got \(1, 24, 6, 8\)'),
        (4, (1, 16, 6, 8), 1, 'with odd k'),
        (4, (2, 25, 6, 8), 1, r'got \(2, 25, 6, 8\)'),
    ],
)
def test_reassemble_names_what_is_wrong(channels, shape, groups, message):
    with pytest.raises(ValueError, match=message):
        reassemble(torch.zeros(1, channels, 3, 4), torch.zeros(shape), 2, groups)


def test_similarity_names_what_is_wrong():
    with pytest.raises(ValueError, match='kernel_size must be odd, got 4'):
        similarity(torch.zeros(1, 4, 3, 4), torch.zeros(1, 4, 6, 8), 4)
    with pytest.raises(ValueError, match=r'the fine map must have the shape .* = \(1, 4, 6, 8\), got \(1, 4, 6, 9\)'):
        similarity(torch.zeros(1, 4, 3, 4), torch.zeros(1, 4, 6, 9), 3)


@pytest.mark.parametrize('s', [1, 2, 3])
def test_deformable_attention_against_loops(s):
    query, key, value = random(2, 6, 3 * s, 4 * s), random(2, 6, 3, 4), random(2, 4, 3, 4)
    offset = (2 * torch.randn(2, 2 * 5 * 2, 3 * s, 4 * s).double()).requires_grad_()  # far enough to leave the map
    got = deformable_attention(query, key, value, offset, s, groups=2, num_points=5)
    torch.testing.assert_close(got, deformable_attention_loop(query, key, value, offset, s, 2, 5))


@pytest.mark.parametrize(
    ('shapes', 'message'),
    [
        (((1, 4, 6, 8), (1, 4, 3, 4), (1, 5, 3, 4), (1, 12, 6, 8)), 'divisible by groups, got 5, 4, groups=2'),
        (((1, 4, 6, 9), (1, 4, 3, 4), (1, 6, 3, 4), (1, 12, 6, 8)), r'query must have the shape \(1, 4, 6, 8\) .* got \(1, 4, 6, 9\)'),
        (((1, 4, 6, 8), (1, 4, 3, 4), (1, 6, 3, 4), (1, 10, 6, 8)), r'offset must have the shape \(1, 12, 6, 8\) .* got \(1, 10, 6, 8\)'),
    ],
)
def test_deformable_attention_names_what_is_wrong(shapes, message):
    with pytest.raises(ValueError, match=message):
        deformable_attention(*map(torch.zeros, shapes), groups=2, num_points=3)


def test_deformable_attention_recomputes_its_gradients(monkeypatch):
    tensors = random(1, 4, 4, 6), random(1, 4, 2, 3), random(1, 2, 2, 3), random(1, 2 * 3 * 2, 4, 6)
    out = deformable_attention(*tensors, groups=2, num_points=3)
    got = torch.autograd.grad(out.square().sum(), tensors)
    for module in ('lean', 'point_attention'):
        monkeypatch.setattr(f'mmdysample.functional.{module}.captured', lambda: True)
    kept = deformable_attention(*tensors, groups=2, num_points=3)
    torch.testing.assert_close(got, torch.autograd.grad(kept.square().sum(), tensors))


def test_pixel_shuffle_of_an_empty_batch_has_a_gradient():
    x = torch.randn(0, 12, 3, 5, requires_grad=True)
    pixel_shuffle(x, 2).sum().backward()
    assert x.grad.shape == x.shape
    x = torch.randn(2, 12, 3, 5)
    torch.testing.assert_close(pixel_shuffle(x, 2), torch.nn.functional.pixel_shuffle(x, 2))


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_a_pixel_that_is_not_finite_reaches_its_neighbourhood_only(value):
    """And as the same values in both forms, forward and backward."""
    x, weight = torch.randn(1, 3, 7, 9, dtype=torch.float64), torch.rand(1, 25, 14, 18, dtype=torch.float64)
    x[0, 1, 3, 4] = value
    got, expected = tiles.reassemble(x, weight, 5, 2), taps.reassemble(x, weight, 5, 2)
    torch.testing.assert_close(got, expected, equal_nan=True)
    assert (~got.isfinite()).sum() == 100
    grad = torch.randn(1, 3, 14, 18, dtype=torch.float64)
    grad[0, 2, 5, 6] = value
    torch.testing.assert_close(tiles.spread(grad, weight, 5, 2), taps.spread(grad, weight, 5, 2), equal_nan=True)
    assert (~tiles.spread(grad, weight, 5, 2).isfinite()).sum() == 25


def test_spread_by_taps_is_the_transpose_of_reassemble():
    x, weight = torch.randn(2, 3, 5, 7, dtype=torch.float64), torch.rand(2, 9, 15, 21, dtype=torch.float64)
    y = torch.randn(2, 3, 15, 21, dtype=torch.float64)
    torch.testing.assert_close((taps.reassemble(x, weight, 3, 3) * y).sum(), (x * taps.spread(y, weight, 3, 3)).sum())
