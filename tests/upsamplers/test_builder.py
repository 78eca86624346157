from pathlib import Path

import pytest
import torch
from torch import nn

from mmdysample import DySample, DySamplePlus, build_upsampler, list_upsamplers
from mmdysample.upsamplers.fit import upsample_as

pytest.importorskip('mmcv.cnn')

from mmcv.cnn import build_upsample_layer
from mmengine.registry import MODELS, init_default_scope

# At 256 channels, x2.
PARAMETERS = {
    'nearest': 0,
    'bilinear': 0,
    'deconv': 590080,
    'pixel_shuffle': 2360320,
    'CARAFE': 74148,
    'DLU': 35489,
    'FADE': 47514,
    'FADE-Lite': 13332,
    'FreqFusion': 104690,
    'FRFU': 21074,
    'LDA-AQU': 39410,
    'ReSFU': 47570,
    'SAPA-I': 0,
    'SAPA-B': 17472,
    'SAPA-D': 139808,
    'IndexNet': 2100224,
    'A2U': 10790,
    'DUpsample': 262144,
    'DySample': 8224,
    'DySample+': 16416,
    'DySample-S': 1040,
    'DySample-S+': 2064,
}


def test_the_list_holds_mmcvs_and_ours():
    assert sorted(list_upsamplers()) == sorted(PARAMETERS)


def test_each_inherits_the_tests_of_all():
    from upsampler_tests import UpsamplerTests

    written = ''.join(path.read_text() for path in Path(__file__).parent.glob('test_*.py'))
    assert UpsamplerTests.__name__ in written
    assert [name for name in list_upsamplers() if f"    name = '{name}'" not in written] == []


@pytest.mark.parametrize(('name', 'parameters'), PARAMETERS.items())
def test_parameters(name, parameters):
    assert sum(p.numel() for p in build_upsampler(name, 256).parameters()) == parameters


def test_a_name_a_dict_and_a_class_are_the_same():
    for cfg in ('DySample+', dict(type='DySample+'), DySamplePlus, dict(type=DySamplePlus), 'mmdysample.DySample+'):
        assert type(build_upsampler(cfg, 16)) is DySamplePlus
    assert build_upsampler(nn.Upsample, 16).scale_factor == 2


def test_the_users_config_wins():
    module = build_upsampler(dict(type='DySample', groups=2, scale_factor=3), 16)
    assert (module.groups, module.scale_factor) == (2, 3)
    deconv = build_upsampler(dict(type='deconv', kernel_size=4, out_channels=8), 16)
    assert deconv(torch.randn(1, 16, 3, 5)).shape == (1, 8, 6, 10)


def test_the_config_is_left_alone():
    cfg = dict(type='DySample', groups=2)
    build_upsampler(cfg, 16)
    assert cfg == dict(type='DySample', groups=2)


@pytest.mark.parametrize('scope', [None, 'mmengine', 'mmdet', 'mmseg'])
@pytest.mark.parametrize('kind', ['DySample', 'mmdysample.DySample'])
def test_mmcvs_own_builder_finds_it_in_every_scope(scope, kind):
    if scope:
        pytest.importorskip(scope)
        init_default_scope(scope)
    assert type(build_upsample_layer(dict(type=kind, in_channels=64))) is DySample


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        ('DySampel', r"unknown upsampler 'DySampel' \(did you mean 'DySample' or .*; registered are nearest, bilinear"),
        ('dysample', r"did you mean 'DySample'"),
        ('xyz', r"unknown upsampler 'xyz'; registered are"),
        ('math.pi', r"unknown upsampler 'math.pi'"),
        ('nowhere.Nothing', r"unknown upsampler 'nowhere.Nothing'"),
        ('Conv2d', r"'Conv2d' is not an upsampler: its class Conv2d does not declare `guided`"),
        (dict(type='DySample', group=4), r"takes no argument 'group' \(did you mean 'groups'\?\); it takes in_channels, scale_factor"),
        (dict(mode='nearest'), r"needs a type, one of nearest.* got \{'mode': 'nearest'\}"),
        (dict(type='DySample', groups=3), 'in_channels must be divisible by groups, got in_channels=16, groups=3'),
    ],
)
def test_wrong_configs(cfg, message):
    with pytest.raises(ValueError, match=message):
        build_upsampler(cfg, 16)


def test_an_upsampler_of_the_users_own():
    @MODELS.register_module(name='Doubler', force=True)
    class Doubler(nn.Module):
        guided = True

        def __init__(self, in_channels, guide_channels, scale_factor=2):
            super().__init__()
            self.arguments, self.scale_factor = (in_channels, guide_channels), scale_factor

        def forward(self, x, guide):
            assert guide.shape[2:] == (2 * x.shape[2], 2 * x.shape[3])
            return x.repeat_interleave(2, 2).repeat_interleave(2, 3) + guide

    try:
        module = build_upsampler('Doubler', 16, guide_channels=8)
        assert module.arguments == (16, 8)
        assert 'Doubler' in list_upsamplers()
        # An odd guide is grown by its last row and column, and the result cropped.
        x, guide = torch.zeros(1, 4, 2, 3), torch.randn(1, 4, 3, 5)
        torch.testing.assert_close(upsample_as(module, x, guide), guide)
    finally:
        MODELS.module_dict.pop('Doubler')
