import pytest
import torch
import torch.nn.functional as F
from conftest import assert_parity, golden_cases
from upsampler_tests import CompiledUpsamplerTests, UpsamplerTests

from mmdysample import A2U
from mmdysample.upsamplers import a2u
from mmdysample.upsamplers.a2u import adaptive_mean, slide

NAMES = {
    'kernel_gen.bnu.0': 'norm_u',
    'kernel_gen.bnv.0': 'norm_v',
    'kernel_gen.bconv_UP.1': 'spread',
    'kernel_gen.bconv_U.1': 'u',
    'kernel_gen.bconv_V.1': 'v',
}


class TestA2U(UpsamplerTests):
    name = 'A2U'
    test_onnx_by_the_capturing_exporter = CompiledUpsamplerTests.test_onnx_by_the_capturing_exporter


@pytest.mark.parametrize(('case', 'golden'), golden_cases('golden_a2u.npz'))
def test_parity_with_the_authors_implementation(case, golden):
    assert_parity(A2U(case['channels']), golden, NAMES)


@pytest.mark.parametrize('size', [(12, 18), (7, 13), (2, 4), (1, 6)])
def test_adaptive_mean_is_torchs_in_an_export(size, monkeypatch):
    monkeypatch.setattr(a2u, 'exporting', lambda: True)
    x = torch.randn(2, 3, *size).double()
    torch.testing.assert_close(adaptive_mean(x, 6), F.adaptive_avg_pool2d(x, 6))


def test_every_image_has_its_own_window():
    x, window = torch.randn(3, 4, 6, 10), torch.randn(3, 1, 6, 6)
    expected = torch.cat([F.conv2d(x[i].unsqueeze(1), window[i : i + 1], stride=2, padding=2).transpose(0, 1) for i in range(3)])
    torch.testing.assert_close(slide(x, window, 2), expected)
