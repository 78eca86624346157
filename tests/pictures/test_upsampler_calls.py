import pytest
import torch
from mmengine.model import ModuleList
from torch import nn

from mmdysample import CARAFE, DySample, FreqFusion, replace_upsample
from mmdysample.pictures.upsampler_calls import Recorder, choose_call, find_upsamplers, record_calls, upsampler_name
from mmdysample.upsamplers.fit import upsample_as, upsample_both


class Model(nn.Module):
    """Upsamples twice, to odd sizes; the image is padded by three columns."""

    def __init__(self):
        super().__init__()
        self.upsample_modules = ModuleList([DySample(8), DySample(8), nn.Upsample(scale_factor=2)])
        self.roi_head = nn.ModuleDict({'upsample': DySample(8)})
        self.maps = [torch.randn(1, 8, 3, 5), torch.randn(1, 4, 5, 9)]

    def data_preprocessor(self, data, training):
        return {'inputs': torch.zeros(1, 3, 24, 40)}

    def test_step(self, data):
        x, finer = self.maps
        for upsampler in self.upsample_modules[1:]:
            out = upsample_as(upsampler, x, finer)
        self.roi_head['upsample'](torch.randn(7, 8, 4, 4))
        return self.upsample_modules[0](out)


def test_calls_are_kept_with_the_guide_that_is_at_hand():
    model = Model()
    before, expected = list(model.upsample_modules), model.test_step({})
    assert list(find_upsamplers(model)) == [f'upsample_modules.{i}' for i in range(3)]
    calls = record_calls(model, {})
    assert all(module is old for module, old in zip(model.upsample_modules, before))
    assert torch.equal(model.test_step({}), expected)

    call = calls['upsample_modules.1']
    assert torch.equal(call.x, model.maps[0])
    assert torch.equal(call.guide[:, :, :5, :9], model.maps[1])
    assert call.guide.shape == (1, 4, 6, 10)  # grown to the upsampler's output, as for a guided one
    assert torch.equal(call.out, before[1](call.x))
    assert (call.stride, call.scale_factor) == ((8.0, 8.0), 2)
    assert calls['upsample_modules.0'].guide is None


def test_calls_are_kept_as_they_were():
    """The model goes on in place with both the map and what became of it."""

    class InPlace(Model):
        def test_step(self, data):
            x = self.maps[0].clone()
            out = self.upsample_modules[0](x).relu_()
            return x.zero_(), out

    model = InPlace()
    call = record_calls(model, {})['upsample_modules.0']
    assert torch.equal(call.x, model.maps[0])
    with torch.no_grad():
        assert torch.equal(call.out, model.upsample_modules[0](model.maps[0]))


def test_the_finest_map_is_chosen():
    calls = record_calls(Model(), {})
    assert choose_call(calls).name == 'upsample_modules.0'
    assert choose_call(calls, 'upsample_modules.1').x.shape[2:] == (3, 5)
    with pytest.raises(ValueError, match=r"no upsampler 'neck' .* it has upsample_modules\.0, upsample_modules\.1, upsample_modules\.2$"):
        choose_call(calls, 'neck')
    with pytest.raises(ValueError, match=r"no DySample 'upsample_modules.2' .* it has upsample_modules\.0, upsample_modules\.1$"):
        choose_call(calls, 'upsample_modules.2', DySample)
    with pytest.raises(ValueError, match='has no DySample'):
        choose_call({}, None, DySample)


def test_names():
    assert [upsampler_name(module) for module in (CARAFE(8), nn.Upsample(scale_factor=2, mode='bilinear'))] == ['CARAFE', 'bilinear']


@pytest.mark.parametrize(
    ('module', 'found'),
    [
        (nn.Upsample(scale_factor=(2.0, 2.0)), True),
        (nn.ConvTranspose2d(8, 8, 2, stride=2), True),
        (nn.Upsample(size=(8, 8)), False),  # as large as it says, whatever the map
        (nn.Upsample(scale_factor=1.5), False),
        (nn.Upsample(scale_factor=0.5), False),
        (nn.ConvTranspose2d(8, 8, 2, stride=(1, 2)), False),
    ],
    ids=str,
)
def test_an_upsampler_has_a_whole_ratio(module, found):
    model = Model()
    model.upsample_modules[0] = module
    calls = record_calls(model, {})
    assert [name for name in calls if name.endswith('0')] == ['upsample_modules.0'] * found
    if found:
        assert calls['upsample_modules.0'].scale_factor == 2


def test_what_has_been_replaced_is_not_found():
    model = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Upsample(scale_factor=2))
    replace_upsample(model, 'DySample', torch.randn(1, 8, 3, 5))
    assert [upsampler_name(module) for module in find_upsamplers(model).values()] == ['DySample']


def test_an_enhanced_guide_reaches_the_model():
    module = FreqFusion(8, guide_channels=4)
    x, finer = torch.randn(1, 8, 6, 7), torch.randn(1, 4, 12, 14)
    recorder = Recorder(module)
    for got, expected in zip(upsample_both(recorder, x, finer), upsample_both(module, x, finer), strict=True):
        assert torch.equal(got, expected)
    assert torch.equal(recorder.call[2], upsample_as(module, x, finer))
    assert not torch.equal(upsample_both(recorder, x, finer)[1], finer)
