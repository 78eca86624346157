import pytest
import torch
from conftest import assert_parity, golden_cases
from upsampler_tests import CompiledUpsamplerTests

from mmdysample import CARAFE, build_upsampler
from mmdysample.upsamplers import carafe


class TestCARAFE(CompiledUpsamplerTests):
    name = 'CARAFE'


@pytest.mark.parametrize(('case', 'golden'), golden_cases('golden_carafe.npz'))
def test_parity_with_mmcv(case, golden):
    assert_parity(CARAFE(**{'in_channels': case['channels'], **_ours(case['kwargs'])}), golden)


def _ours(kwargs):
    return {name: value for name, value in kwargs.items() if name != 'channels'}


def test_loads_the_weights_of_mmcvs_module():
    pytest.importorskip('mmcv.ops')  # which registers it
    from mmcv.cnn import build_upsample_layer

    theirs = build_upsample_layer(dict(type='carafe', channels=32, scale_factor=3, up_group=2))
    ours = CARAFE(32, 3, up_group=2)
    ours.load_state_dict(theirs.state_dict())
    assert {name: p.shape for name, p in ours.named_parameters()} == {name: p.shape for name, p in theirs.named_parameters()}


def test_mmcvs_name_builds_it():
    module = build_upsampler(dict(type='carafe', up_kernel=3, compressed_channels=16), 32)
    assert type(module) is CARAFE
    assert module.content_encoder.weight.shape == (36, 16, 3, 3)


def test_kernels_sum_to_one():
    module = CARAFE(16, up_group=4, up_kernel=3).half()
    kernels = module.predict_kernels(torch.randn(1, 16, 3, 5).half())
    assert kernels.dtype == torch.float32
    torch.testing.assert_close(kernels.view(1, 4, 9, 6, 10).sum(2), torch.ones(1, 4, 6, 10))


def test_mmcvs_operator_is_used_where_it_can_be(monkeypatch):
    """On CUDA, where mmcv was built for it: simulated here, with the arguments that the operator would get."""
    pytest.importorskip('mmcv.ops')
    calls = []

    def operator(x, masks, kernel_size, group, scale):
        assert x.is_contiguous()  # it reads memory as if it were
        assert masks.is_contiguous()
        calls.append((masks.shape, masks.dtype, kernel_size, group, scale))
        return x.repeat_interleave(scale, 2).repeat_interleave(scale, 3)

    monkeypatch.setattr('mmcv.ops.carafe', operator)
    module = CARAFE(16, up_group=2)
    x = torch.randn(1, 16, 4, 3)
    module(x)
    assert calls == []
    monkeypatch.setattr(carafe, 'has_mmcv_operator', lambda x: True)
    assert module(x.contiguous(memory_format=torch.channels_last)).shape == (1, 16, 8, 6)
    assert calls == [((1, 50, 8, 6), torch.float32, 5, 2, 2)]


def test_where_mmcvs_operator_can_be_used(monkeypatch):
    monkeypatch.setattr(carafe, '_mmcv_knows_cuda', lambda: True)
    on_cuda = torch.empty(1, 1, device='meta')  # a stand-in: what is asked of it is said below
    assert not carafe.has_mmcv_operator(torch.zeros(1, 1))

    class Tensor:
        is_cuda, dtype = True, torch.float16

        def numel(self):
            return on_cuda.numel()

    tensor = Tensor()
    assert carafe.has_mmcv_operator(tensor)
    tensor.dtype = torch.bfloat16
    assert not carafe.has_mmcv_operator(tensor)
    tensor.dtype = torch.float32
    tensor.numel = lambda: 0
    assert not carafe.has_mmcv_operator(tensor)


def test_an_mmcv_without_cuda_is_recognised(monkeypatch):
    pytest.importorskip('mmcv.ops')
    for version, expected in (('not available', False), ('12.1', True)):
        monkeypatch.setattr('mmcv.ops.get_compiling_cuda_version', lambda version=version: version)
        carafe._mmcv_knows_cuda.cache_clear()
        assert carafe._mmcv_knows_cuda() is expected
    carafe._mmcv_knows_cuda.cache_clear()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(up_kernel=4), 'up_kernel must be odd, got 4'),
        (dict(encoder_kernel=0), 'encoder_kernel must be a positive integer, got 0'),
        (dict(up_group=3), 'in_channels must be divisible by up_group, got in_channels=16, up_group=3'),
        (dict(compressed_channels=0), 'compressed_channels must be a positive integer, got 0'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        CARAFE(16, **arguments)
