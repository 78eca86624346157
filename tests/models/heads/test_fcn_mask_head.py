import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

pytest.importorskip('mmdet')
from mmdet.models.roi_heads.mask_heads import FCNMaskHead as StockFCNMaskHead

from mmdysample import CARAFE, DySample, FCNMaskHead, list_upsamplers

ARGUMENTS = dict(num_convs=1, in_channels=16, conv_out_channels=32, num_classes=5)
GUIDED = [name for name in list_upsamplers() if getattr(MODELS.get(name), 'guided', False)]
NAMED = [name for name in list_upsamplers() if name not in GUIDED]


def rois():
    return torch.randn(3, 16, 7, 9)


@pytest.mark.parametrize(
    ('cfg', 'stock'),
    [
        ({}, {}),
        (dict(upsample_cfg=None), {}),
        (dict(upsample_cfg='deconv'), {}),
        *((dict(upsample_cfg=cfg),) * 2 for cfg in (dict(type='deconv', scale_factor=3), dict(type=None))),
        *((dict(upsample_cfg=dict(type=name, scale_factor=2)),) * 2 for name in ('nearest', 'bilinear')),
    ],
    ids=str,
)
def test_what_mmdet_builds_is_mmdets(cfg, stock):
    ours, theirs = FCNMaskHead(**ARGUMENTS, **cfg), StockFCNMaskHead(**ARGUMENTS, **stock)
    ours.load_state_dict(theirs.state_dict())
    x = rois()
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize('name', NAMED)
def test_every_upsampler_without_a_guide(name):
    head = FCNMaskHead(**ARGUMENTS, upsample_cfg=name)
    head.init_weights()
    out = head(rois())
    out.sum().backward()
    assert out.shape == (3, 5, 14, 18)
    assert all(p.grad is not None for p in head.parameters())


def test_dysample_in_it():
    """Between the convolutions and the classifier, x2 unless the config says another ratio, initialised as ever."""
    head = FCNMaskHead(**{**ARGUMENTS, 'num_convs': 0}, upsample_cfg=dict(type='DySample+', groups=2, scale_factor=3))
    assert type(head.upsample) is DySample or isinstance(head.upsample, DySample)
    assert head.upsample.in_channels == 16
    head.init_weights()
    assert head.upsample.offset.weight.std().item() == pytest.approx(0.001, rel=0.2)
    x = rois()
    assert torch.equal(head(x), head.conv_logits(head.upsample(x)))
    assert head(x).shape == (3, 5, 21, 27)


def test_the_weights_of_mmdets_carafe_load():
    cfg = dict(type='carafe', scale_factor=2, up_kernel=5, up_group=1, encoder_kernel=3, encoder_dilation=1, compressed_channels=8)
    ours, theirs = FCNMaskHead(**ARGUMENTS, upsample_cfg=cfg), StockFCNMaskHead(**ARGUMENTS, upsample_cfg=dict(cfg))
    assert type(ours.upsample) is CARAFE
    ours.load_state_dict(theirs.state_dict())


def test_by_prefix_in_an_mmdet_config():
    init_default_scope('mmdet')
    assert type(MODELS.build(dict(type='mmdysample.FCNMaskHead', upsample_cfg='DySample', **ARGUMENTS))) is FCNMaskHead


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        *((name, f'{name} needs a finer map as guide, and a mask head has none') for name in GUIDED),
        ('DySampel', 'unknown upsampler'),
        (dict(groups=2), 'needs a type'),
        (dict(type='DySample', groups=3), 'in_channels must be divisible by groups'),
    ],
)
def test_bad_arguments(cfg, message):
    with pytest.raises(ValueError, match=message):
        FCNMaskHead(**ARGUMENTS, upsample_cfg=cfg)
