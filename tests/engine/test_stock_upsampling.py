"""An upsampler for a stock module: the line fits the module that is there."""

import pytest
from mmengine.config import Config

from mmdysample.engine.stock_upsampling import check_stock_modules, how_to_upsample
from mmdysample.engine.upsampler import upsampler_places, use_upsampler

pytest.importorskip('mmdet')

DYSAMPLE = dict(type='DySample')
WRAP = r"wrap it in a config file of your own, {path}: {name}=dict\(_delete_=True, type='mmdysample.Upsampled', module=dict\(type='{kind}'"


def config(scope='mmdet', **model):
    return Config(dict(model=model, default_scope=scope))


def wrap(kind, path='model.neck', name='neck'):
    return f'the stock {kind} supports no upsample_cfg with a type; {WRAP.format(path=path, name=name, kind=kind)}'


@pytest.mark.parametrize(
    ('model', 'told'),
    [
        (dict(neck=dict(type='FPN', upsample_cfg=DYSAMPLE)), 'the stock FPN supports no .*; add model.neck.type=mmdysample.FPN$'),
        (dict(neck=dict(type='mmdet.FPN', upsample_cfg=DYSAMPLE)), 'the stock FPN supports no .*; add model.neck.type=mmdysample.FPN$'),
        (dict(neck=dict(type='mmseg.FPN', upsample_cfg='CARAFE')), 'add model.neck.type=mmdysample.FPN$'),
        (dict(neck=[dict(type='FPN', upsample_cfg=DYSAMPLE), dict(type='BFP')]), 'add model.neck.0.type=mmdysample.FPN$'),
        (dict(neck=[dict(type='BFP'), dict(type='FPN', upsample_cfg=DYSAMPLE)]), 'add model.neck.1.type=mmdysample.FPN$'),
        (dict(detector=dict(neck=dict(type='FPN', upsample_cfg=DYSAMPLE))), 'add model.detector.neck.type=mmdysample.FPN$'),
        (
            dict(neck=dict(type='FPN_CARAFE', upsample_cfg=DYSAMPLE)),
            'supports only nearest, .* carafe as .*; add model.neck.type=mmdysample.FPN model.neck.fuse_extra_levels=True$',
        ),
        (dict(neck=dict(type='YOLOXPAFPN', upsample_cfg=DYSAMPLE)), wrap('YOLOXPAFPN')),
        (dict(neck=dict(type='CSPNeXtPAFPN', upsample_cfg=dict(type='nearest'))), wrap('CSPNeXtPAFPN')),
        (dict(neck=dict(type='mmdet.PAFPN', upsample_cfg=DYSAMPLE)), wrap('PAFPN')),
        (dict(neck=[dict(type='NASFPN', upsample_cfg=DYSAMPLE)]), wrap('NASFPN', 'model.neck.0')),
        (dict(backbone=dict(type='HourglassNet', upsample_cfg=DYSAMPLE)), wrap('HourglassNet', 'model.backbone', 'backbone')),
        (
            dict(roi_head=dict(mask_head=dict(type='FCNMaskHead', upsample_cfg=DYSAMPLE))),
            'supports only deconv, .*; add model.roi_head.mask_head.type=mmdysample.FCNMaskHead$',
        ),
        (dict(decode_head=dict(type='SegformerHead', upsample_cfg=DYSAMPLE)), 'add model.decode_head.type=mmdysample.SegformerHead$'),
    ],
)
def test_a_stock_module_is_named_with_what_takes_an_upsampler(model, told):
    with pytest.raises(ValueError, match=told):
        check_stock_modules(config(**model))


@pytest.mark.parametrize(
    'model',
    [
        dict(neck=dict(type='FPN', upsample_cfg=dict(mode='bilinear'))),
        dict(neck=dict(type='mmdysample.FPN', upsample_cfg=DYSAMPLE)),
        dict(neck=dict(type='mmdysample.Upsampled', module=dict(type='YOLOXPAFPN'), upsample_cfg=DYSAMPLE)),
        dict(neck=dict(type='FPN_CARAFE', upsample_cfg=dict(type='carafe', up_kernel=5))),
        dict(neck=dict(type='YOLOXPAFPN', upsample_cfg=dict(scale_factor=2, mode='nearest'))),
        dict(roi_head=dict(mask_head=dict(type='FCNMaskHead', upsample_cfg=dict(type='deconv', scale_factor=2)))),
        dict(roi_head=dict(mask_head=[None, dict(type='CoarseMaskHead', upsample_cfg=dict(type=None))])),
        dict(neck=dict(type='NeckOfTheUser', upsample_cfg=DYSAMPLE)),
    ],
)
def test_what_is_right_is_left_alone(model):
    check_stock_modules(config(**model))
    check_stock_modules(Config(dict()))


def test_upsampling_of_a_stock_module_that_has_types_of_its_own():
    pytest.importorskip('mmseg')
    unet = dict(type='UNet', upsample_cfg=dict(type='InterpConv'))
    check_stock_modules(config('mmseg', backbone=unet))
    with pytest.raises(ValueError, match=wrap('UNet', 'model.backbone', 'backbone')):
        check_stock_modules(config('mmseg', backbone=dict(unet, upsample_cfg=DYSAMPLE)))


@pytest.mark.parametrize(
    ('model', 'remedy'),
    [
        (dict(neck=dict(type='FPN')), 'add --cfg-options model.neck.type=mmdysample.FPN'),
        (dict(neck=[dict(type='mmdet.FPN'), dict(type='BFP')]), 'add --cfg-options model.neck.0.type=mmdysample.FPN'),
        (dict(neck=dict(type='FPN_CARAFE')), 'add --cfg-options model.neck.type=mmdysample.FPN model.neck.fuse_extra_levels=True'),
        (dict(decode_head=dict(type='SegformerHead')), 'add --cfg-options model.decode_head.type=mmdysample.SegformerHead'),
        (
            dict(panoptic_head=dict(pixel_decoder=dict(type='PixelDecoder'))),
            'add --cfg-options model.panoptic_head.pixel_decoder.type=mmdysample.PixelDecoder',
        ),
        (
            dict(neck=dict(type='YOLOXPAFPN')),
            "wrap it in a config file of your own, model.neck: neck=dict(_delete_=True, type='mmdysample.Up",
        ),
        (dict(neck=[dict(type='NASFPN')]), 'wrap it in a config file of your own, model.neck.0: neck=dict('),
        (dict(backbone=dict(type='ResNet')), ''),
    ],
)
def test_the_option_looks_at_the_module_that_is_there(model, remedy):
    cfg = config(**model)
    assert how_to_upsample(cfg).startswith(remedy)
    with pytest.raises(ValueError, match='no module in the model of .* takes one; '):
        use_upsampler(cfg, 'DySample')


def test_a_neck_in_a_list_takes_the_upsampler():
    cfg = config(neck=[dict(type='mmdysample.FPN'), dict(type='BFP')])
    assert list(upsampler_places(cfg)) == ['model.neck.0']
    use_upsampler(cfg, 'CARAFE')
    assert cfg.model.neck[0].upsample_cfg == dict(type='CARAFE')
