import subprocess
import sys

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

mmdet = pytest.importorskip('mmdet')
from mmdet.models.necks import FPN as StockFPN  # noqa: E402
from mmdet.models.necks import FPN_CARAFE  # noqa: E402

from mmdysample import FPN, DySample, list_upsamplers  # noqa: E402
from mmdysample.frameworks import install_command  # noqa: E402

CHANNELS = [8, 16, 24, 32]
SIZES = [(37, 50), (19, 25), (10, 13), (5, 7)]  # odd on purpose: a backbone rounds up
ARGUMENTS = [
    dict(num_outs=4),
    dict(num_outs=6),
    dict(num_outs=5, start_level=1, add_extra_convs='on_input'),
    dict(num_outs=5, start_level=1, add_extra_convs='on_lateral', relu_before_extra_convs=True),
    dict(num_outs=6, add_extra_convs='on_output', relu_before_extra_convs=True),
    dict(num_outs=5, add_extra_convs=True),
    dict(num_outs=2, start_level=1, end_level=2),
    dict(num_outs=5, norm_cfg=dict(type='BN'), act_cfg=dict(type='ReLU'), no_norm_on_lateral=True),
]


def maps():
    return tuple(torch.randn(2, c, *size) for c, size in zip(CHANNELS, SIZES))


def assert_same_outputs(ours, stock):
    ours.load_state_dict(stock.state_dict())
    inputs = maps()
    for got, expected in zip(ours(inputs), stock(inputs), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize('mode', ['nearest', 'bilinear'])
@pytest.mark.parametrize('arguments', ARGUMENTS, ids=str)
def test_without_a_type_it_is_mmdets(arguments, mode):
    cfg = dict(mode=mode)
    assert_same_outputs(FPN(CHANNELS, 16, upsample_cfg=cfg, **arguments), StockFPN(CHANNELS, 16, upsample_cfg=cfg, **arguments))


@pytest.mark.parametrize('arguments', ARGUMENTS, ids=str)
def test_with_nearest_by_name_it_still_is(arguments):
    """Our own top-down path and extra levels, bit for bit."""
    assert_same_outputs(FPN(CHANNELS, 16, upsample_cfg='nearest', **arguments), StockFPN(CHANNELS, 16, **arguments))


@pytest.mark.parametrize('num_outs', [5, 6])
@pytest.mark.parametrize('cfg', [dict(type='nearest'), dict(mode='nearest')])
@pytest.mark.parametrize('start_level', [0, 1])
def test_fused_levels_are_those_of_fpn_carafe(num_outs, cfg, start_level):
    arguments = dict(num_outs=num_outs, start_level=start_level)
    ours = FPN(CHANNELS, 16, upsample_cfg=cfg, fuse_extra_levels=True, **arguments)
    assert_same_outputs(ours, FPN_CARAFE(CHANNELS, 16, upsample_cfg=dict(type='nearest'), **arguments))


def test_the_state_dict_names_of_the_authors_checkpoints():
    neck = FPN([256, 512, 1024, 2048], 256, 5, upsample_cfg='DySample+', fuse_extra_levels=True)
    shapes = {key: tuple(value.shape) for key, value in neck.state_dict().items()}
    expected = {'lateral_convs.4.conv.weight': (256, 2048, 3, 3)}
    for i in range(5):
        expected |= {f'{part}.{i}.conv.{kind}': None for part in ('lateral_convs', 'fpn_convs') for kind in ('weight', 'bias')}
    for i in range(4):
        prefix = f'upsample_modules.{i}'
        expected |= {f'{prefix}.offset.weight': (32, 256, 1, 1), f'{prefix}.offset.bias': (32,)}
        expected |= {f'{prefix}.scope.weight': (32, 256, 1, 1), f'{prefix}.init_pos': (1, 32, 1, 1)}
    assert shapes.keys() == expected.keys()
    assert all(shape is None or shapes[key] == shape for key, shape in expected.items())


def test_each_level_has_an_upsampler_of_its_own():
    neck = FPN(CHANNELS, 16, 5, upsample_cfg=dict(type='DySample', groups=2))
    assert len(neck.upsample_modules) == 3
    neck.upsample_modules[1].offset.bias.data += 0.7
    inputs = maps()
    moved = neck(inputs)
    neck.upsample_modules[1].offset.bias.data -= 0.7
    changed = [not torch.equal(a, b) for a, b in zip(moved, neck(inputs))]
    assert changed == [True, True, False, False, False]


def test_gradients_reach_every_offset():
    neck = FPN(CHANNELS, 16, 5, upsample_cfg='DySample+', fuse_extra_levels=True)
    neck.init_weights()
    sum(out.sin().sum() for out in neck(maps())).backward()
    for module in neck.upsample_modules:
        assert module.offset.weight.grad.abs().sum() > 0
        assert module.scope.weight.grad.abs().sum() > 0


def test_initialisation():
    neck = FPN([64] * 4, 256, 5, upsample_cfg='DySample+', fuse_extra_levels=True)
    neck.init_weights()
    for module in neck.upsample_modules:
        assert module.offset.weight.std().item() == pytest.approx(0.001, rel=0.2)
        assert module.scope.weight.eq(0).all()
    for conv in neck.lateral_convs:
        weight = conv.conv.weight
        fan = sum(torch.nn.init._calculate_fan_in_and_fan_out(weight))
        assert weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.1)


def test_the_guide_is_the_finer_lateral(guide_alone):
    neck = FPN(CHANNELS, 16, 4, upsample_cfg=guide_alone)
    inputs = maps()
    expected = [conv(2 * lateral(x)) for conv, lateral, x in zip(neck.fpn_convs[:3], neck.lateral_convs, inputs)]
    for got, want in zip(neck(inputs), expected):
        torch.testing.assert_close(got, want)


def test_compiles_into_one_graph():
    neck = FPN(CHANNELS, 16, 5, upsample_cfg='DySample+', fuse_extra_levels=True)
    compiled = torch.compile(neck, fullgraph=True, backend='aot_eager', dynamic=True)
    inputs = maps()
    for got, expected in zip(compiled(inputs), neck(inputs), strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg', 'mmengine'])
def test_the_prefix_needs_no_import(scope):
    pytest.importorskip(scope)
    init_default_scope(scope)
    neck = MODELS.build(dict(type='mmdysample.FPN', in_channels=CHANNELS, out_channels=16, num_outs=5, upsample_cfg=dict(type=DySample)))
    assert type(neck) is FPN


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(upsample_cfg='DySampel'), "unknown upsampler 'DySampel'"),
        (dict(upsample_cfg=dict(type='DySample', groups=3)), 'in_channels=16, groups=3'),
        (dict(fuse_extra_levels=True, add_extra_convs='on_input'), "add_extra_convs must be off, got 'on_input'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        FPN(CHANNELS, 16, 5, **arguments)


def test_nothing_said_is_the_default():
    stock = StockFPN(CHANNELS, 16, 5)
    assert_same_outputs(FPN(CHANNELS, 16, 5), stock)
    assert_same_outputs(FPN(CHANNELS, 16, 5, upsample_cfg=None), stock)


def test_fused_levels_keep_the_other_arguments_of_a_config_without_a_type():
    neck = FPN(CHANNELS, 16, 5, upsample_cfg=dict(mode='bilinear', align_corners=True), fuse_extra_levels=True)
    assert all(module.mode == 'bilinear' and module.align_corners for module in neck.upsample_modules)


def test_a_ratio_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match='scale_factor must be 2, got 4'):
        FPN(CHANNELS, 16, 5, upsample_cfg=dict(type='DySample', scale_factor=4))
    neck = FPN(CHANNELS, 16, 5, upsample_cfg='DySample')
    with pytest.raises(ValueError, match=r'\d+x\d+ cannot become \d+x\d+ with x2'):
        neck((*maps()[:2], torch.randn(2, 24, 3, 4), torch.randn(2, 32, 5, 7)))


@pytest.mark.slow
def test_mmseg_alone_is_enough():
    """Without mmdet, mmseg's FPN is extended; it is the same network, with mmdet's reading of the arguments."""
    pytest.importorskip('mmseg')
    code = """
import sys; sys.modules['mmdet'] = None
import torch
from mmdysample import FPN
from mmseg.models.necks import FPN as Stock
assert issubclass(FPN, Stock)
for arguments in (dict(num_outs=5, add_extra_convs=True), dict(num_outs=2, start_level=1, end_level=2)):
    neck = FPN([8, 16, 24, 32], 16, upsample_cfg='DySample', **arguments)
    outs = neck([torch.randn(1, c, 32 // 2**i, 48 // 2**i) for i, c in enumerate([8, 16, 24, 32])])
    print(neck.add_extra_convs, [tuple(out.shape[2:]) for out in outs])
"""
    printed = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert printed == [
        'on_input [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]',
        'False [(16, 24), (8, 12)]',
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ('missing', 'name', 'installed'),
    [(['mmdet', 'mmseg'], 'FPN', 'mmdet'), (['mmseg'], 'SegformerHead', 'mmseg')],
)
def test_a_missing_framework_is_named_when_it_is_needed(missing, name, installed):
    code = f"""
import sys
for name in {missing}: sys.modules[name] = None
import mmdysample, mmdysample.functional, mmdysample.upsamplers
from mmengine.registry import MODELS
try:
    MODELS.build(dict(type='mmdysample.{name}'))
except ImportError as error:
    print(error)
"""
    printed = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=True).stdout
    assert f'mmdysample.{name} needs' in printed
    assert f'Run: {install_command(installed)}' in printed


@pytest.mark.parametrize('name', list_upsamplers())
def test_every_upsampler_and_odd_sizes(name):
    """Guided or not, by its name alone; FADE's gate is off, because the lateral is added anyway."""
    neck = FPN(CHANNELS, 32, num_outs=5, upsample_cfg=name)
    neck.init_weights()
    outs = neck(maps())
    sum(out.sum() for out in outs).backward()
    assert [tuple(out.shape[2:]) for out in outs] == [*SIZES, (3, 4)]
    assert all(p.grad is not None for p in neck.upsample_modules.parameters())
    assert [m.gating for m in neck.upsample_modules if hasattr(m, 'gating')] == [False] * (3 if 'FADE' in name else 0)
    if name == 'FADE':
        assert FPN(CHANNELS, 32, num_outs=5, upsample_cfg=dict(type=name, gating=True)).upsample_modules[0].gating
