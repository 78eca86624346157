"""Necks and heads over a backbone that rounds sizes down, as ConvNeXt and PVT do: they give the sizes of the stock module."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from torch import nn

pytest.importorskip('mmcv.cnn')

CHANNELS = [8, 8, 8, 8]
UPSAMPLERS = [None, 'nearest', 'deconv', dict(type='DySample', groups=2), 'CARAFE', 'FADE', 'IndexNet']
SIZES = [*range(33, 68)]
HEAD = dict(in_channels=CHANNELS, in_index=[0, 1, 2, 3], channels=8, num_classes=3, dropout_ratio=0, norm_cfg=dict(type='BN'))
DECODER = dict(in_channels=CHANNELS, feat_channels=8, out_channels=8, norm_cfg=dict(type='GN', num_groups=2))


class Backbone(nn.Module):
    """Strides 1, 2, 4 and 8 by convolutions without padding, 2x2 or 3x3."""

    def __init__(self, kernel):
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 8, 1), *(nn.Conv2d(8, 8, kernel, stride=2) for _ in range(3))])

    def forward(self, x):
        maps = []
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return tuple(maps)


@torch.no_grad()
def maps(size, kernel=2):
    return Backbone(kernel)(torch.randn(2, 3, size, 100 - size))


def build(scope, **config):
    pytest.importorskip(scope)
    init_default_scope(scope)
    return MODELS.build(config).eval()


def sizes(out):
    return [tuple(y.shape) for y in ((out,) if torch.is_tensor(out) else out)]


METAS = [dict(img_shape=(64, 64), batch_input_shape=(64, 64))] * 2
MODULES = {
    'FPN': ('mmdet', dict(in_channels=CHANNELS, out_channels=8, num_outs=5), ()),
    'UPerHead': ('mmseg', HEAD, ()),
    'SegformerHead': ('mmseg', HEAD, ()),
    'PixelDecoder': ('mmdet', DECODER, (METAS,)),
}


@pytest.mark.parametrize('kernel', [2, 3])
@pytest.mark.parametrize('cfg', UPSAMPLERS, ids=str)
@pytest.mark.parametrize('name', MODULES)
@torch.no_grad()
def test_every_size_is_that_of_the_stock_module(name, cfg, kernel):
    scope, arguments, more = MODULES[name]
    stock = build(scope, type=name, **arguments)
    module = build(scope, type=f'mmdysample.{name}', **arguments, upsample_cfg=cfg)
    for size in SIZES[:: 2 if kernel == 3 else 1]:
        inputs = maps(size, kernel)
        out = module(inputs, *more)
        assert sizes(out) == sizes(stock(inputs, *more))
        assert all(y.isfinite().all() for y in ((out,) if torch.is_tensor(out) else out))


def written_out(x, upsampler, finer):
    """Extend the map, and the guide, by the last row and column; upsample; crop."""

    def extend(y, height, width):
        return y[:, :, torch.arange(height).clamp(max=y.shape[2] - 1)][:, :, :, torch.arange(width).clamp(max=y.shape[3] - 1)]

    height, width = finer.shape[2:]
    x = extend(x, (height + 1) // 2, (width + 1) // 2)
    guide = (extend(finer, 2 * x.shape[2], 2 * x.shape[3]),) if upsampler.guided else ()
    return upsampler(x, *guide)[:, :, :height, :width]


@pytest.mark.parametrize('cfg', [dict(type='DySample', groups=2), 'FADE', 'CARAFE'], ids=str)
@pytest.mark.parametrize('size', [33, 50, 63, 67])
@torch.no_grad()
def test_the_pyramid_written_out(cfg, size):
    neck = build('mmdet', type='mmdysample.FPN', in_channels=CHANNELS, out_channels=8, num_outs=4, upsample_cfg=cfg)
    for p in neck.upsample_modules.parameters():
        nn.init.normal_(p, std=0.2)
    inputs = maps(size)
    laterals = [conv(x) for conv, x in zip(neck.lateral_convs, inputs)]
    for i in (2, 1, 0):
        laterals[i] = laterals[i] + written_out(laterals[i + 1], neck.upsample_modules[i], laterals[i])
    for got, lateral, conv in zip(neck(inputs), laterals, neck.fpn_convs, strict=True):
        torch.testing.assert_close(got, conv(lateral), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', ['UPerHead', 'SegformerHead', 'FPNHead'])
@torch.no_grad()
def test_stock_heads_with_upsamplers_put_in(name):
    """Up to x8 in one call, and maps pooled to a fixed size, which are left."""
    more = dict(feature_strides=[4, 8, 16, 32]) if name == 'FPNHead' else {}
    stock = build('mmseg', type=name, **HEAD, **more)
    module = build(
        'mmseg', type='mmdysample.Upsampled', module=dict(type=name, **HEAD, **more), upsample_cfg=dict(type='DySample', groups=2)
    )
    for size in SIZES:
        inputs = maps(size)
        assert sizes(module(inputs)) == sizes(stock(inputs))
