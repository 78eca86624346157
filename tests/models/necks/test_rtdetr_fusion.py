import re

import pytest
import torch
import torch.nn.functional as F
from conftest import golden_cases
from mmengine.registry import MODELS, init_default_scope

pytest.importorskip('mmdet')
from mmdysample import RTDETRFusion, list_upsamplers

CHANNELS = [8, 16, 24]
SIZES = [(37, 50), (19, 25), (10, 13)]  # odd on purpose: a backbone rounds up
NARROW = dict(out_channels=32, expansion=0.5, num_blocks=1, num_heads=4, feedforward_channels=32)

# From the names of transformers to ours; its query, key and value projections are one matrix here.
RENAMED = {
    r'^encoder_input_proj\.(\d+)\.0': r'input_proj.\1.conv',
    r'^encoder_input_proj\.(\d+)\.1': r'input_proj.\1.bn',
    r'^encoder\.aifi\.0\.': 'encoder.',
    r'^encoder\.(?=lateral|fpn|downsample|pan)': '',
    r'\.norm\.': '.bn.',
    r'self_attn\.o_proj': 'self_attn.attn.out_proj',
    r'self_attn_layer_norm': 'norms.0',
    r'final_layer_norm': 'norms.1',
    r'mlp\.fc1': 'ffn.layers.0.0',
    r'mlp\.fc2': 'ffn.layers.1',
}


def maps(sizes=SIZES):
    return tuple(torch.randn(2, c, *size) for c, size in zip(CHANNELS, sizes))


def numbered(golden, name):
    return tuple(golden[f'{name}/{i}'] for i in range(3))


def weights_of_transformers(golden):
    state = {}
    for key, value in golden.items():
        if not key.startswith('param/'):
            continue
        name = key.removeprefix('param/')
        for pattern, replacement in RENAMED.items():
            name = re.sub(pattern, replacement, name)
        state[name] = value
    for kind in ('weight', 'bias'):
        parts = [state.pop(f'encoder.layers.0.self_attn.{part}_proj.{kind}') for part in 'qkv']
        state[f'encoder.layers.0.self_attn.attn.in_proj_{kind}'] = torch.cat(parts)
    return state


@pytest.mark.parametrize('upsample_cfg', [None, 'nearest'])
@pytest.mark.parametrize(('arguments', 'golden'), golden_cases('golden_rtdetr_fusion.npz'))
def test_it_is_rtdetrs(arguments, golden, upsample_cfg):
    """Outputs of ``RTDetrHybridEncoder`` of transformers 5.23.0, behind projections as ``RTDetrModel`` makes them.

    The vectors are of narrow encoders with random weights and running statistics, built from ``RTDetrConfig`` and run in float64.
    """
    neck = RTDETRFusion(**arguments, upsample_cfg=upsample_cfg).double().eval()
    missing, unexpected = neck.load_state_dict(weights_of_transformers(golden), strict=False)
    assert unexpected == []
    assert all(key.endswith('num_batches_tracked') for key in missing)
    for got, expected in zip(neck(numbered(golden, 'x')), numbered(golden, 'y'), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-6 * expected.abs().max().item())


@pytest.mark.parametrize(
    ('in_channels', 'expansion', 'upsample_cfg', 'parameters'),
    [
        ([128, 256, 512], 0.5, None, 4_965_120),  # R18: the number of transformers' encoder and projections, as below
        ([512, 1024, 2048], 1.0, None, 11_950_848),  # R50
        ([128, 256, 512], 0.5, 'DySample', 4_965_120 + 2 * 8_224),
        ([128, 256, 512], 0.5, 'DySample-S+', 4_965_120 + 2 * 2_064),
    ],
)
def test_parameters(in_channels, expansion, upsample_cfg, parameters):
    with torch.device('meta'):
        neck = RTDETRFusion(in_channels, expansion=expansion, upsample_cfg=upsample_cfg)
    assert sum(p.numel() for p in neck.parameters()) == parameters


def test_expansion_and_depth():
    neck = RTDETRFusion(CHANNELS, 16, expansion=0.25, num_blocks=2, encoder_layers=0)
    blocks = [*neck.fpn_blocks, *neck.pan_blocks]
    assert [len(block.bottlenecks) for block in blocks] == [2] * 4
    assert [block.bottlenecks[0].conv1.conv.weight.shape for block in blocks] == [(4, 4, 3, 3)] * 4
    assert neck.encoder is None
    assert [out.shape[1] for out in neck(maps())] == [16] * 3


@pytest.mark.parametrize('mode', ['nearest', 'bilinear'])
def test_without_a_type_it_is_interpolation(mode):
    """At sizes that are no multiples, and with nothing learned: the weights are those of a neck that was told nothing."""
    stock, ours = RTDETRFusion(CHANNELS, **NARROW).eval(), RTDETRFusion(CHANNELS, upsample_cfg=dict(mode=mode), **NARROW).eval()
    ours.load_state_dict(stock.state_dict())
    inputs = maps()
    same = [torch.equal(got, expected) for got, expected in zip(ours(inputs), stock(inputs), strict=True)]
    assert same == [mode == 'nearest'] * 3
    seen = {}
    stock.fpn_blocks[1].register_forward_pre_hook(lambda _, args: seen.update(fused=args[0]))
    stock.lateral_convs[1].register_forward_hook(lambda _, __, out: seen.update(coarse=out))
    stock(inputs)
    torch.testing.assert_close(seen['fused'][:, :32], F.interpolate(seen['coarse'], scale_factor=2)[:, :, :37, :50])


def test_each_step_has_an_upsampler_of_its_own():
    neck = RTDETRFusion(CHANNELS, upsample_cfg='DySample', **NARROW).eval()
    assert len(neck.upsample_modules) == 2
    inputs, fused = maps(), []
    for block in neck.fpn_blocks:
        block.register_forward_pre_hook(lambda _, args: fused.append(args[0]))
    before = neck(inputs)
    neck.upsample_modules[0].offset.bias.data += 0.7  # that of the finest level
    after = neck(inputs)
    assert torch.equal(fused[0], fused[2])
    assert not torch.equal(fused[1], fused[3])
    assert [torch.equal(a, b) for a, b in zip(before, after)] == [False] * 3  # the bottom-up path carries it on


def test_the_guide_is_the_finer_map_that_it_is_joined_with(guide_alone):
    neck = RTDETRFusion(CHANNELS, upsample_cfg=guide_alone, **NARROW).eval()
    fused = []
    for block in neck.fpn_blocks:
        block.register_forward_pre_hook(lambda _, args: fused.append(args[0]))
    inputs = maps()
    neck(inputs)
    for got, conv, x in zip(reversed(fused), neck.input_proj, inputs):
        torch.testing.assert_close(got, torch.cat([conv(x), conv(x)], dim=1))


@pytest.mark.parametrize('name', list_upsamplers())
def test_every_upsampler_and_odd_sizes(name):
    neck = RTDETRFusion(CHANNELS, upsample_cfg=name, **NARROW)
    neck.init_weights()
    outs = neck(maps())
    sum(out.sin().sum() for out in outs).backward()
    assert [tuple(out.shape) for out in outs] == [(2, 32, *size) for size in SIZES]
    assert all(p.grad is not None for p in neck.parameters())
    assert [m.gating for m in neck.upsample_modules if hasattr(m, 'gating')] == [True] * (2 if 'FADE' in name else 0)


def test_initialisation():
    neck = RTDETRFusion([64] * 3, 256, upsample_cfg='DySample+', expansion=0.25, num_blocks=1)
    neck.init_weights()
    for module in neck.upsample_modules:
        assert module.offset.weight.std().item() == pytest.approx(0.001, rel=0.2)
        assert module.scope.weight.eq(0).all()


def test_compiles_into_one_graph():
    neck = RTDETRFusion(CHANNELS, upsample_cfg='DySample+', **NARROW).eval()
    compiled = torch.compile(neck, fullgraph=True, backend='aot_eager', dynamic=False)
    inputs = maps()
    for got, expected in zip(compiled(inputs), neck(inputs), strict=True):
        torch.testing.assert_close(got, expected)


def test_the_prefix_needs_no_import():
    init_default_scope('mmdet')
    neck = MODELS.build(dict(type='mmdysample.RTDETRFusion', in_channels=CHANNELS, upsample_cfg=dict(type='DySample'), **NARROW))
    assert type(neck) is RTDETRFusion


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(upsample_cfg='DySampel'), "unknown upsampler 'DySampel'"),
        (dict(upsample_cfg=dict(type='DySample', groups=3)), 'in_channels=16, groups=3'),
        (dict(upsample_cfg=dict(type='DySample', scale_factor=4)), 'scale_factor must be 2, got 4'),
        (dict(num_heads=3), 'out_channels must be divisible by num_heads, got out_channels=16, num_heads=3'),
        (dict(out_channels=18, num_heads=2), 'out_channels must be divisible by 4, got out_channels=18'),
        (dict(expansion=0.05), 'expansion must leave a channel, got expansion=0.05 of out_channels=16'),
        (dict(num_blocks=0), 'num_blocks must be a positive integer, got 0'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        RTDETRFusion(CHANNELS, **(dict(out_channels=16) | arguments))


def test_levels_that_do_not_fit_are_refused():
    neck = RTDETRFusion(CHANNELS, upsample_cfg='DySample', **NARROW)
    with pytest.raises(ValueError, match=r'\d+x\d+ cannot become \d+x\d+ with x2'):
        neck(maps([(37, 50), (19, 25), (5, 7)]))
    with pytest.raises(ValueError, match=r'in_channels=\[8, 16, 24\] lists 3 maps, got 2'):
        neck(maps()[:2])
