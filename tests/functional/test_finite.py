import torch

from mmdysample.functional.finite import finite_or_centre


def test_with_and_without_gradients_it_returns_the_same():
    offset = torch.tensor([float('nan'), float('inf'), -float('inf'), 3e38, -3e38, 0.25, -0.0])
    expected = torch.tensor([0, 0, 0, 3e38, -3e38, 0.25, 0])
    leaf = offset.clone().requires_grad_()
    got = finite_or_centre(leaf)
    torch.testing.assert_close(finite_or_centre(offset), expected, rtol=0, atol=0)
    torch.testing.assert_close(got.detach(), expected, rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(got, leaf, torch.full_like(leaf, float('nan')))
    assert gradient.isnan().tolist() == [False] * 3 + [True] * 4
    assert offset[0].isnan()  # it is not changed in place
