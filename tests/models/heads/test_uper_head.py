import pytest
import torch
import torch.nn.functional as F
from conftest import assert_same_training
from mmengine.registry import MODELS, init_default_scope

pytest.importorskip('mmseg')
from mmseg.models.decode_heads import UPerHead as StockUPerHead

from mmdysample import UPerHead, list_upsamplers

CHANNELS = [8, 16, 24, 32]
EVEN = [(32, 48), (16, 24), (8, 12), (4, 6)]
ODD = [(37, 50), (19, 25), (10, 13), (5, 7)]
ARGUMENTS = dict(in_channels=CHANNELS, in_index=[0, 1, 2, 3], channels=32, num_classes=7, dropout_ratio=0, norm_cfg=dict(type='BN'))


def maps(sizes=ODD):
    return tuple(torch.randn(2, c, *size) for c, size in zip(CHANNELS, sizes))


@pytest.mark.parametrize('cfg', [{}, dict(upsample_cfg=None), dict(upsample_cfg=dict(mode='bilinear'))])
@pytest.mark.parametrize('align_corners', [False, True])
def test_without_a_type_it_is_mmsegs(cfg, align_corners):
    arguments = dict(ARGUMENTS, align_corners=align_corners)
    assert_same_training(UPerHead(**arguments, **cfg), StockUPerHead(**arguments), maps())


def test_bilinear_by_name_is_mmsegs_where_sizes_are_even():
    assert_same_training(UPerHead(**ARGUMENTS, upsample_cfg='bilinear'), StockUPerHead(**ARGUMENTS), maps(EVEN))


@pytest.mark.parametrize('sizes', [EVEN, ODD], ids=['even', 'odd'])
def test_the_top_down_path_step_by_step(sizes):
    """A learned upsampler, by the definition of the head: from the coarsest level down, and the finest size for all in the end."""
    head = UPerHead(**ARGUMENTS, upsample_cfg=dict(type='DySample+', groups=2)).eval()
    for p in head.upsample_modules.parameters():
        torch.nn.init.normal_(p, std=0.3)
    inputs = maps(sizes)
    pyramid = {4: head.psp_forward(inputs)}
    for stage in (3, 2, 1):
        height, width = sizes[stage - 1]
        up = head.upsample_modules[stage - 1](pyramid[stage + 1])
        pyramid[stage] = head.lateral_convs[stage - 1](inputs[stage - 1]) + up[:, :, :height, :width]
    joined = [head.fpn_convs[0](pyramid[1])]
    joined += [F.interpolate(head.fpn_convs[i](pyramid[i + 1]), sizes[0], mode='bilinear') for i in (1, 2)]
    joined += [F.interpolate(pyramid[4], sizes[0], mode='bilinear')]
    expected = head.conv_seg(head.fpn_bottleneck(torch.cat(joined, 1)))
    torch.testing.assert_close(head(inputs), expected)
    stock = StockUPerHead(**ARGUMENTS).eval()
    stock.load_state_dict(head.state_dict(), strict=False)
    assert (stock(inputs) - expected).abs().max() > 0.01


def test_the_guide_is_the_finer_lateral(guide_alone):
    head = UPerHead(**ARGUMENTS, upsample_cfg=guide_alone).eval()
    inputs = maps()
    finest = head.fpn_convs[0](2 * head.lateral_convs[0](inputs[0]))
    seen = []
    head.fpn_bottleneck.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    head(inputs)
    torch.testing.assert_close(seen[0][:, :32], finest)


@pytest.mark.parametrize('name', list_upsamplers())
def test_three_upsamplers_and_odd_sizes(name):
    """Guided or not, by its name alone; FADE's gate is off, because the lateral is added anyway."""
    head = UPerHead(**ARGUMENTS, upsample_cfg=name)
    assert len(head.upsample_modules) == 3
    head.init_weights()
    out = head(maps())
    out.sin().sum().backward()
    assert out.shape == (2, 7, 37, 50)
    assert all(p.grad is not None for p in head.upsample_modules.parameters())
    assert [m.gating for m in head.upsample_modules if hasattr(m, 'gating')] == [False] * (3 if 'FADE' in name else 0)


def test_an_initialisation_of_ones_own_reaches_the_upsamplers():
    constant = dict(type='Constant', val=0.5, layer='Conv2d')
    head = UPerHead(**ARGUMENTS, upsample_cfg=dict(type='DySample', init_cfg=constant))
    head.init_weights()
    assert all(m.offset.weight.eq(0.5).all() for m in head.upsample_modules)
    assert not head.lateral_convs[0].conv.weight.eq(0.5).any()


@pytest.mark.parametrize(
    ('name', 'published', 'counted'),
    [
        ('deconv', '7.1M', 7079424),
        ('pixel_shuffle', '28.3M', 28317696),
        ('CARAFE', '0.3M', 271596),
        ('IndexNet', '25.2M', 25184256),
        ('A2U', '0.1M', 64626),
        ('FADE', '', 240075),  # 0.1M is published, which FADE-Lite has
        ('FADE-Lite', '0.1M', 77625),
        ('SAPA-B', '0.1M', 104640),
        ('DySample', '', 3 * 16416),
    ],
)
def test_the_published_counts_are_those_of_three_steps(name, published, counted):
    """At 512 channels (tiny-smart/sapa)."""
    with torch.device('meta'):
        head = UPerHead(**dict(ARGUMENTS, channels=512), upsample_cfg=name)
    assert sum(p.numel() for p in head.upsample_modules.parameters()) == counted
    if published:
        assert f'{counted / 1e6:.1f}M' == published


def test_by_prefix_in_an_mmseg_config():
    init_default_scope('mmseg')
    head = MODELS.build(dict(type='mmdysample.UPerHead', upsample_cfg='DySample-S+', **ARGUMENTS))
    assert type(head) is UPerHead


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(mode='nearest'), r"may only be dict\(mode='bilinear'\) here, got {'mode': 'nearest'}"),
        ('DySampel', 'unknown upsampler'),
        (dict(type='DySample', groups=3), 'in_channels=32, groups=3'),
        (dict(type='DySample', scale_factor=4), 'scale_factor must be 2, got 4'),
    ],
)
def test_bad_arguments(cfg, message):
    with pytest.raises(ValueError, match=message):
        UPerHead(**ARGUMENTS, upsample_cfg=cfg)


def test_levels_of_another_ratio_are_refused():
    head = UPerHead(**ARGUMENTS, upsample_cfg='DySample')
    with pytest.raises(ValueError, match=r'\d+x\d+ cannot become \d+x\d+ with x2'):
        head(maps([(37, 50), (19, 25), (10, 13), (10, 13)]))
