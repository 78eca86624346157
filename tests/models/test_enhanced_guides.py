"""FreqFusion has two results. Necks and heads add or concatenate the enhanced guide in place of their own finer map."""

import pytest
import torch
from torch import nn

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmdysample import FPN, FreqFusion, PixelDecoder, SegformerHead, UPerHead
from mmdysample.upsamplers.fit import upsample_both

CHANNELS = [8, 16, 24, 32]
EVEN = [(32, 48), (16, 24), (8, 12), (4, 6)]
ODD = [(37, 50), (19, 25), (10, 13), (5, 7)]
HEAD = dict(in_channels=CHANNELS, in_index=[0, 1, 2, 3], channels=32, num_classes=7, dropout_ratio=0, norm_cfg=dict(type='BN'))
NORM = dict(type='GN', num_groups=4)
METAS = [dict(batch_input_shape=(148, 200), img_shape=(148, 150))] * 2


def maps(sizes):
    return tuple(torch.randn(2, c, *size) for c, size in zip(CHANNELS, sizes))


def build(cls, *arguments, **kwargs):
    model = cls(*arguments, upsample_cfg=dict(type='FreqFusion', compressed_channels=8), **kwargs).eval()
    for p in model.upsample_modules.parameters():
        nn.init.normal_(p, std=0.3)
    return model


MODELS = {
    'FPN': lambda: build(FPN, CHANNELS, 32, 4),
    'UPerHead': lambda: build(UPerHead, **HEAD),
    'PixelDecoder': lambda: build(
        PixelDecoder, in_channels=CHANNELS, feat_channels=32, out_channels=24, norm_cfg=dict(type='GN', num_groups=4)
    ),
    'SegformerHead': lambda: build(SegformerHead, **HEAD),
}


def call(model, inputs):
    out = model(inputs, METAS) if isinstance(model, PixelDecoder) else model(inputs)
    return out if isinstance(out, torch.Tensor) else out[0]


@pytest.mark.parametrize('sizes', [EVEN, ODD], ids=['even', 'odd'])
@pytest.mark.parametrize('name', MODELS)
def test_the_high_pass_half_is_used(name, sizes, monkeypatch):
    model, inputs = MODELS[name](), maps(sizes)
    both = call(model, inputs)
    monkeypatch.setattr(FreqFusion, 'enhances_guide', False)
    alone = call(model, inputs)
    assert both.shape == alone.shape
    assert (both - alone).abs().max() > 0.1 * alone.abs().max()


@pytest.mark.parametrize('name', MODELS)
def test_the_high_pass_half_is_trained(name, monkeypatch):
    """Its logits alone: the low pass reads them as well, and is therefore left out."""
    model, inputs = MODELS[name](), maps(EVEN)
    stock = FreqFusion.upsample_and_enhance

    def map_of_zeros(self, x, guide):
        y, enhanced = stock(self, x, guide)
        return torch.zeros_like(y), enhanced

    monkeypatch.setattr(FreqFusion, 'upsample_and_enhance', map_of_zeros)
    monkeypatch.setattr(FreqFusion, 'upsample', lambda self, x, guide: guide.new_zeros(len(x), x.shape[1], *guide.shape[2:]))
    call(model, inputs).sin().sum().backward()
    grads = [module.content_encoder2.weight.grad for module in model.upsample_modules]
    assert sum(grad is not None and bool(grad.any()) for grad in grads) == 3


def test_the_pyramid_by_hand():
    neck, inputs = MODELS['FPN'](), maps(EVEN)
    laterals = [conv(x) for conv, x in zip(neck.lateral_convs, inputs)]
    for i in (2, 1, 0):
        y, guide = neck.upsample_modules[i](laterals[i + 1], laterals[i], both=True)
        laterals[i] = y + guide
    for got, conv, lateral in zip(neck(inputs), neck.fpn_convs, laterals):
        torch.testing.assert_close(got, conv(lateral))


def test_the_segformer_head_by_hand():
    head, inputs = MODELS['SegformerHead'](), maps(EVEN)
    one, two, three, four = (conv(x) for conv, x in zip(head.convs, inputs))
    a, b, c, d, e, f = head.upsample_modules
    x4, enhanced3 = a(four, three, both=True)
    x4 = c(b(x4, two), one)
    x3, enhanced2 = d(enhanced3, two, both=True)
    x3 = e(x3, one)
    x2, enhanced1 = f(enhanced2, one, both=True)
    expected = head.cls_seg(head.fusion_conv(torch.cat([enhanced1, x2, x3, x4], dim=1)))
    torch.testing.assert_close(head(inputs), expected)


@pytest.mark.parametrize('size', [(10, 14), (9, 14), (10, 13), (11, 15), (12, 16)])
def test_a_guide_of_any_size(size):
    module = FreqFusion(32, 16, compressed_channels=8)
    y, enhanced = upsample_both(module, torch.randn(1, 32, 5, 7), torch.randn(1, 16, *size))
    assert (y.shape, enhanced.shape) == ((1, 32, *size), (1, 16, *size))


def test_others_get_their_guide_back():
    from mmdysample import SAPAB

    x, guide = torch.randn(1, 32, 5, 7), torch.randn(1, 32, 10, 14)
    module = SAPAB(32)
    y, same = module(x, guide, both=True)
    assert same is guide
    torch.testing.assert_close(y, module(x, guide), rtol=0, atol=0)
    assert upsample_both(module, x, guide)[1] is guide
