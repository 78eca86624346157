import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

pytest.importorskip('mmseg')
from mmseg.models.decode_heads import SegformerHead as StockSegformerHead

from mmdysample import SegformerHead, list_upsamplers

CHANNELS = [8, 16, 24, 32]
SIZES = [(37, 50), (19, 25), (10, 13), (5, 7)]
ARGUMENTS = dict(in_channels=CHANNELS, in_index=[0, 1, 2, 3], channels=32, num_classes=7, dropout_ratio=0.1, norm_cfg=dict(type='BN'))


def maps(sizes=SIZES):
    return tuple(torch.randn(2, c, *size) for c, size in zip(CHANNELS, sizes))


@pytest.mark.parametrize(
    ('cfg', 'stock'),
    [
        ({}, {}),
        (dict(upsample_cfg=None), {}),
        (dict(upsample_cfg=dict(mode='nearest')), dict(interpolate_mode='nearest', align_corners=None)),
    ],
)
def test_without_a_type_it_is_mmsegs(cfg, stock):
    ours, theirs = SegformerHead(**ARGUMENTS, **cfg).eval(), StockSegformerHead(**ARGUMENTS, **stock).eval()
    ours.load_state_dict(theirs.state_dict())
    inputs = maps()
    assert torch.equal(ours(inputs), theirs(inputs))


def test_nearest_by_name_is_mmsegs_nearest():
    """x2 after x2 of nearest neighbours is x4 at once, which mmseg does, where the sizes are even."""
    ours = SegformerHead(**ARGUMENTS, upsample_cfg='nearest').eval()
    theirs = StockSegformerHead(**ARGUMENTS, interpolate_mode='nearest', align_corners=None).eval()
    ours.load_state_dict(theirs.state_dict())
    inputs = maps([(32, 48), (16, 24), (8, 12), (4, 6)])
    torch.testing.assert_close(ours(inputs), theirs(inputs))


@pytest.mark.parametrize('name', list_upsamplers())
def test_six_upsamplers_and_odd_sizes(name):
    head = SegformerHead(**ARGUMENTS, upsample_cfg=dict(type=name))
    assert len(head.upsample_modules) == 6
    head.init_weights()
    out = head(maps())
    out.sum().backward()
    assert out.shape == (2, 7, 37, 50)
    assert all(p.grad is not None for p in head.upsample_modules.parameters())
    assert [m.gating for m in head.upsample_modules if hasattr(m, 'gating')] == [True] * (6 if 'FADE' in name else 0)


def test_stage_4_takes_three_steps_stage_3_two_and_stage_2_one(recorder):
    """Each step is guided by the embedded map of the next finer stage."""
    name, calls = recorder
    head = SegformerHead(**ARGUMENTS, upsample_cfg=name).eval()
    sizes = [(32, 48), (16, 24), (8, 12), (4, 6)]
    inputs = maps(sizes)
    head(inputs)
    assert [call[0] for call in calls] == list(head.upsample_modules)
    assert [tuple(call[1]) for call in calls] == [sizes[3], sizes[2], sizes[1], sizes[2], sizes[1], sizes[1]]
    for (_, size, guide), stage in zip(calls, [2, 1, 0, 1, 0, 0]):
        assert torch.equal(guide, head.convs[stage](inputs[stage])), size


def test_by_prefix_in_an_mmseg_config():
    init_default_scope('mmseg')
    head = MODELS.build(dict(type='mmdysample.SegformerHead', upsample_cfg='DySample-S+', **ARGUMENTS))
    assert type(head) is SegformerHead


@pytest.mark.parametrize(
    ('cfg', 'message'), [(dict(mode='nearest', size=3), 'may only hold a mode, as in .*, got size'), ('DySampel', 'unknown upsampler')]
)
def test_bad_arguments(cfg, message):
    with pytest.raises(ValueError, match=message):
        SegformerHead(**ARGUMENTS, upsample_cfg=cfg)
