import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, init_default_scope

pytest.importorskip('mmseg')
from mmdysample import CoarseHead, list_upsamplers

CHANNELS = [4, 5, 6, 7, 8, 9]
SIZES = [(17, 37), (9, 19), (5, 10), (3, 5), (2, 3), (1, 2)]  # every stride rounds up somewhere
ARGUMENTS = dict(in_channels=CHANNELS, in_index=[0, 1, 2, 3, 4, 5], channels=32, num_classes=7, dropout_ratio=0.1, norm_cfg=dict(type='BN'))
GUIDED = [name for name in list_upsamplers() if getattr(MODELS.get(name), 'guided', False)]


def maps(channels=CHANNELS, sizes=SIZES, dtype=torch.float32):
    return tuple(torch.randn(2, c, *size, dtype=dtype) for c, size in zip(channels, sizes))


def by_hand(weights, inputs):
    """The head with bilinear interpolation, of torch's functions alone."""

    def layer(name, x):
        x = F.conv2d(x, weights[f'{name}.conv.weight'])
        mean, variance, weight, bias = (weights[f'{name}.bn.{key}'] for key in ('running_mean', 'running_var', 'weight', 'bias'))
        return F.relu(F.batch_norm(x, mean, variance, weight, bias, eps=1e-5))

    def twice(x, size):
        return F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False)[:, :, : size[0], : size[1]]

    fine, coarse = layer('embeddings.0', inputs[4]), layer('embeddings.1', inputs[5])
    x = layer('fusion', torch.cat((fine, twice(coarse, (2, 3))), dim=1))
    for size in ((3, 5), (5, 10), (9, 19), (17, 37)):
        x = twice(x, size)
    return F.conv2d(x, weights['conv_seg.weight'], weights['conv_seg.bias'])


def test_bilinear_by_hand():
    head = CoarseHead(**ARGUMENTS).double().eval()
    for tensor in head.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 1).sub_(0.3 * (tensor.dim() > 1))
    inputs = maps(dtype=torch.float64)
    out = head(inputs)
    assert out.shape == (2, 7, 17, 37)
    torch.testing.assert_close(out, by_hand(head.state_dict(), inputs), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('name', list_upsamplers())
def test_five_upsamplers_and_odd_sizes(name):
    head = CoarseHead(**ARGUMENTS, upsample_cfg=dict(type=name))
    head.init_weights()
    assert len(head.upsample_modules) == len({id(module) for module in head.upsample_modules}) == 5
    out = head(maps())
    assert out.shape == (2, 7, *SIZES[0])
    out.sin().sum().backward()
    for key, parameter in head.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        # The layers before zero weights learn later, and points of a map of one row cannot move.
        assert parameter.dim() == 1 or parameter.grad.any() or '.conv_offset.' in key, key


@pytest.mark.parametrize('name', list_upsamplers())
def test_guided_ones_alone_look_at_finer_maps(name):
    head = CoarseHead(**ARGUMENTS, upsample_cfg=name).eval()
    assert len(head.guides) == (5 if name in GUIDED else 0)
    inputs = maps()
    before = head(inputs)
    for i in range(4):
        changed = [*inputs]
        changed[i] = torch.randn_like(inputs[i])
        assert torch.equal(before, head(changed)) != (name in GUIDED), i


def test_a_guide_is_the_embedded_map_of_the_stride_that_is_made(recorder):
    assert GUIDED
    name, calls = recorder
    head = CoarseHead(**ARGUMENTS, upsample_cfg=name).eval()
    sizes = [(64, 96), (32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]
    inputs = maps(sizes=sizes)
    head(inputs)
    assert [call[0] for call in calls] == list(reversed(head.upsample_modules))
    assert [tuple(call[1]) for call in calls] == sizes[:0:-1]
    embeddings = head.guides
    for i, (_, _, guide) in zip(reversed(range(5)), calls):
        assert torch.equal(guide, embeddings[i](inputs[i]))


@pytest.mark.parametrize('name', ['DySample', 'DySample+', 'DySample-S', 'DySample-S+'])
def test_offsets_start_near_zero(name):
    init_default_scope('mmseg')
    head = MODELS.build(dict(type='mmdysample.CoarseHead', upsample_cfg=dict(type=name), **{**ARGUMENTS, 'channels': 64}))
    assert type(head) is CoarseHead
    head.init_weights()
    for module in head.upsample_modules:
        assert module.offset.weight.std().item() == pytest.approx(0.001, rel=0.15)
    assert head.conv_seg.weight.std().item() == pytest.approx(0.01, rel=0.15)


@pytest.mark.parametrize('index', [[2, 3], [-2, -1]])
def test_two_maps_are_enough(index):
    head = CoarseHead(**{**ARGUMENTS, 'in_channels': [6, 7], 'in_index': index}, upsample_cfg='FADE')
    assert head(maps()[:4]).shape == (2, 7, 5, 10)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(upsample_cfg='DySampel'), 'unknown upsampler'),
        (dict(upsample_cfg=dict(mode='bilinear')), 'needs a type'),
        (dict(upsample_cfg=dict(type='DySample', scale_factor=4)), 'scale_factor must be 2, got 4'),
        (dict(in_channels=CHANNELS[1:]), 'must list the same maps, at least two.*got in_channels=.5, 6, 7, 8, 9. and in_index=.0, 1'),
        (dict(in_channels=[9], in_index=[5]), 'at least two'),
        (dict(in_channels=9, in_index=5), 'got in_channels=9 and in_index=5'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        CoarseHead(**{**ARGUMENTS, **arguments})


@pytest.mark.parametrize(
    'arguments', [dict(in_channels=[4, 5, 6, 7, 9, 9]), dict(in_channels=[3, *CHANNELS[1:]]), dict(in_index=[1, 2, 3, 4, 5, 6])]
)
def test_another_backbone(arguments):
    head = CoarseHead(**{**ARGUMENTS, **arguments})
    with pytest.raises(ValueError, match='does not fit the backbone, whose maps have .4, 5, 6, 7, 8, 9. channels'):
        head(maps())


def test_maps_that_are_not_half_as_large():
    with pytest.raises(ValueError, match=r'\d+x\d+ cannot become \d+x\d+ with x2'):
        CoarseHead(**ARGUMENTS)(maps(sizes=[(37, 83), (19, 42), (10, 21), (10, 21), (5, 11), (3, 6)]))
