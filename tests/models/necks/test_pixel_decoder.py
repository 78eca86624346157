import copy

import pytest
import torch
from conftest import assert_same_training
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope

pytest.importorskip('mmdet')
from mmdet.models.layers import PixelDecoder as StockPixelDecoder
from mmdet.models.layers import TransformerEncoderPixelDecoder as StockTransformerEncoderPixelDecoder

from mmdysample import PixelDecoder, TransformerEncoderPixelDecoder, list_upsamplers

CHANNELS = [8, 16, 24, 40]
SIZES = [(37, 50), (19, 25), (10, 13), (5, 7)]  # odd on purpose: a backbone rounds up
ARGUMENTS = dict(in_channels=CHANNELS, feat_channels=32, out_channels=24, norm_cfg=dict(type='GN', num_groups=4))
ATTENTION = dict(embed_dims=32, num_heads=4, dropout=0.0, batch_first=True)
ENCODER = dict(num_layers=2, layer_cfg=dict(self_attn_cfg=ATTENTION, ffn_cfg=dict(embed_dims=32, feedforward_channels=48, ffn_drop=0.0)))
WITH_ENCODER = dict(ARGUMENTS, encoder=ENCODER, positional_encoding=dict(num_feats=16, normalize=True))
# Two images of different sizes in one batch: the encoder must not look at the padding.
METAS = [dict(batch_input_shape=(148, 200), img_shape=(148, 150)), dict(batch_input_shape=(148, 200), img_shape=(90, 200))]
BOTH = [(PixelDecoder, StockPixelDecoder, ARGUMENTS), (TransformerEncoderPixelDecoder, StockTransformerEncoderPixelDecoder, WITH_ENCODER)]
both = pytest.mark.parametrize(('ours', 'stock', 'arguments'), BOTH, ids=['plain', 'encoder'])


def maps():
    return tuple(torch.randn(2, c, *size) for c, size in zip(CHANNELS, SIZES))


@pytest.mark.parametrize('upsample_cfg', [None, dict(mode='nearest')], ids=str)
@both
def test_without_a_type_it_is_mmdets(ours, stock, arguments, upsample_cfg):
    decoder = ours(**arguments, upsample_cfg=upsample_cfg)
    assert_same_training(decoder, stock(**arguments), maps(), METAS)


@both
def test_with_nearest_by_name_it_still_is(ours, stock, arguments):
    """Our own top-down path and call of the encoder, bit for bit."""
    assert_same_training(ours(**arguments, upsample_cfg='nearest'), stock(**arguments), maps(), METAS)


@both
def test_the_top_down_path_step_by_step(ours, stock, arguments):
    """A learned upsampler, by the definition: mmdet's decoder cut off below its coarsest map tells what the path starts from."""
    decoder = ours(**arguments, upsample_cfg=dict(type='DySample+', groups=2))
    for p in decoder.upsample_modules.parameters():
        torch.nn.init.normal_(p, std=0.3)
    inputs, starts = maps(), []
    first = decoder.last_feat_conv or decoder.encoder_out_proj
    first.register_forward_hook(lambda module, args, out: starts.append(out))
    features, memory = decoder(inputs, METAS)

    [y] = starts
    for level in (2, 1, 0):
        height, width = SIZES[level]
        up = decoder.upsample_modules[level](y)[:, :, :height, :width]
        y = decoder.output_convs[level](decoder.lateral_convs[level](inputs[level]) + up)
    torch.testing.assert_close(features, decoder.mask_feature(y))

    reference = stock(**arguments)
    reference.load_state_dict(decoder.state_dict(), strict=False)
    stock_features, stock_memory = reference(inputs, METAS)
    assert torch.equal(memory, stock_memory)
    assert (features - stock_features).abs().max() > 0.01


@both
def test_the_guide_is_the_finer_lateral(ours, stock, arguments, guide_alone):
    decoder = ours(**arguments, upsample_cfg=guide_alone)
    inputs = maps()
    expected = decoder.mask_feature(decoder.output_convs[0](2 * decoder.lateral_convs[0](inputs[0])))
    torch.testing.assert_close(decoder(inputs, METAS)[0], expected)


@pytest.mark.parametrize('name', list_upsamplers())
@both
def test_every_upsampler_and_odd_sizes(ours, stock, arguments, name):
    """Guided or not, by its name alone; FADE's gate is off, because the lateral is added anyway."""
    decoder = ours(**arguments, upsample_cfg=name)
    assert len(decoder.upsample_modules) == 3
    decoder.init_weights()
    features, memory = decoder(maps(), METAS)
    features.sin().sum().backward()
    assert features.shape == (2, 24, 37, 50)
    assert memory.shape == (2, 40 if ours is PixelDecoder else 32, 5, 7)
    assert all(p.grad is not None for p in decoder.upsample_modules.parameters())
    assert [m.gating for m in decoder.upsample_modules if hasattr(m, 'gating')] == [False] * (3 if 'FADE' in name else 0)


@both
def test_initialisation(ours, stock, arguments):
    """mmdet's decoders initialise their convolutions by name and pass over what they do not know."""
    decoder = ours(**arguments, upsample_cfg=dict(type='DySample', init_cfg=dict(type='Constant', val=0.5, layer='Conv2d')))
    reference = stock(**arguments)
    for module in (decoder, reference):
        torch.manual_seed(1)
        module.init_weights()
    assert all(m.offset.weight.eq(0.5).all() for m in decoder.upsample_modules)
    assert torch.equal(decoder.mask_feature.weight, reference.mask_feature.weight)
    assert torch.equal(decoder.lateral_convs[0].conv.weight, reference.lateral_convs[0].conv.weight)


def head_config(pixel_decoder):
    attention = dict(embed_dims=32, num_heads=4, batch_first=True)
    layer = dict(self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=dict(embed_dims=32, feedforward_channels=48))
    return ConfigDict(
        in_channels=CHANNELS,
        feat_channels=32,
        out_channels=32,
        num_queries=5,
        pixel_decoder=dict(pixel_decoder, norm_cfg=dict(type='GN', num_groups=4)),
        transformer_decoder=dict(num_layers=1, return_intermediate=True, layer_cfg=layer),
        positional_encoding=dict(num_feats=16, normalize=True),
        loss_cls=dict(type='mmdet.CrossEntropyLoss', class_weight=[1.0] * 133 + [0.1]),
        loss_mask=dict(type='mmdet.FocalLoss', use_sigmoid=True),
        loss_dice=dict(type='mmdet.DiceLoss', use_sigmoid=True),
    )


@pytest.mark.parametrize('framework', ['mmdet', 'mmseg'])
@pytest.mark.parametrize('in_channels', [CHANNELS, [8, 16, 24, 32]], ids=['wider', 'as-wide'])
@pytest.mark.parametrize('encoder', [False, True])
def test_in_the_stock_heads(framework, in_channels, encoder):
    """They project the backbone's last map for mmdet's own PixelDecoder alone, told by its type; ours passes for it."""
    pytest.importorskip(framework)
    init_default_scope(framework)
    kind = 'TransformerEncoderPixelDecoder' if encoder else 'PixelDecoder'
    more = {key: WITH_ENCODER[key] for key in ('encoder', 'positional_encoding')} if encoder else {}
    built = {}
    for scope in ('mmdysample', 'mmdet'):
        config = head_config(dict(type=f'{scope}.{kind}', **more))
        built[scope] = MODELS.build(dict(config, type=f'{framework}.MaskFormerHead', in_channels=in_channels)).eval()
    ours, stock = built['mmdysample'], built['mmdet']
    ours.load_state_dict(stock.state_dict())
    inputs = tuple(torch.randn(2, c, *size) for c, size in zip(in_channels, SIZES))
    samples = [ConfigDict(metainfo=meta) for meta in METAS]
    for got, expected in zip(ours(inputs, samples), stock(inputs, samples), strict=True):
        assert torch.equal(got, expected)


def test_only_the_plain_decoder_passes_for_mmdets():
    assert PixelDecoder == StockPixelDecoder
    assert StockPixelDecoder == PixelDecoder
    assert PixelDecoder == PixelDecoder
    assert PixelDecoder is not StockPixelDecoder
    assert PixelDecoder != StockTransformerEncoderPixelDecoder
    assert TransformerEncoderPixelDecoder != StockPixelDecoder
    assert len({PixelDecoder, StockPixelDecoder}) == 2
    decoder = PixelDecoder(**ARGUMENTS, upsample_cfg='DySample')
    twin = copy.deepcopy(decoder)
    assert type(twin) is PixelDecoder
    assert not isinstance(StockPixelDecoder(**ARGUMENTS), PixelDecoder)


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(mode='bilinear'), r"may only be dict\(mode='nearest'\) here, got {'mode': 'bilinear'}"),
        ('DySampel', 'unknown upsampler'),
        (dict(type='DySample', groups=3), 'in_channels=32, groups=3'),
    ],
)
@both
def test_bad_arguments(ours, stock, arguments, cfg, message):
    with pytest.raises(ValueError, match=message):
        ours(**arguments, upsample_cfg=cfg)


def test_levels_of_another_ratio_are_refused():
    decoder = PixelDecoder(**ARGUMENTS, upsample_cfg='DySample')
    with pytest.raises(ValueError, match=r'\d+x\d+ cannot become \d+x\d+ with x2'):
        decoder((*maps()[:3], torch.randn(2, 40, 10, 13)), METAS)
