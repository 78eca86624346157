import numpy as np
import torch

from mmdysample.pictures.principal_colours import fit_colours


def test_components_are_those_of_an_independent_decomposition():
    x = torch.randn(1, 6, 7, 9) * torch.tensor([5.0, 3.0, 2.0, 0.1, 0.1, 0.1]).view(1, 6, 1, 1) + 4
    colours = fit_colours(x)
    pixels = x[0].flatten(1).T.double().numpy()
    _, values, vectors = np.linalg.svd(pixels - pixels.mean(0), full_matrices=False)
    scores = (pixels - pixels.mean(0)) @ vectors[:3].T
    assert np.isclose(colours.explained, (values[:3] ** 2).sum() / (values**2).sum())
    got = colours(x).reshape(-1, 3)
    for k in range(3):
        low, high = np.quantile(scores[:, k], (0.01, 0.99))
        expected = np.clip((scores[:, k] - low) / (high - low), 0, 1)
        assert np.allclose(got[:, k], expected, atol=1e-5) or np.allclose(got[:, k], 1 - expected, atol=1e-5)  # up to the sign


def test_a_value_has_one_colour_in_every_map():
    x = torch.randn(1, 5, 6, 8)
    colours = fit_colours(x)
    part = x[:, :, 2:4, 3:8]
    assert np.array_equal(colours(part), colours(x)[2:4, 3:8])
    assert not np.allclose(fit_colours(part)(part), colours(part), atol=0.05)


def test_few_channels_and_a_constant_map():
    assert fit_colours(torch.randn(1, 2, 3, 4))(torch.randn(1, 2, 5, 5)).shape == (5, 5, 3)
    assert np.isfinite(fit_colours(torch.ones(1, 4, 3, 3))(torch.ones(1, 4, 3, 3))).all()
