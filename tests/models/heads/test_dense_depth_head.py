import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData

pytest.importorskip('mmseg')
from mmseg.structures import SegDataSample

from mmdysample import DenseDepthHead, list_upsamplers

CHANNELS = [32, 64, 96]
SIZES = [(17, 22), (9, 11), (5, 6)]
SWIN_T = [96, 192, 384, 768]


def maps(sizes=SIZES):
    return tuple(torch.randn(2, c, *size) for c, size in zip(CHANNELS, sizes))


def head(**cfg):
    return DenseDepthHead(CHANNELS, channels=8, **cfg)


@pytest.mark.parametrize(('cfg', 'mode'), [(None, 'bilinear'), (dict(mode='bilinear'), 'bilinear'), (dict(mode='nearest'), 'nearest')])
def test_without_a_type_it_interpolates_to_the_finer_map(cfg, mode):
    """Step by step, with the head's own convolutions."""
    model, (fine, middle, coarse) = head(upsample_cfg=cfg, min_depth=0.5, max_depth=80.0), maps()
    nn_args = dict(mode=mode) if mode == 'nearest' else dict(mode=mode, align_corners=False)

    def conv(x, layer):
        return F.leaky_relu(F.conv2d(x, layer.conv.weight, layer.conv.bias, padding=1), 0.2)

    x = F.conv2d(coarse, model.bottleneck.weight, model.bottleneck.bias)
    for step, skip in zip(model.steps, (middle, fine, None)):
        if skip is None:
            x = F.interpolate(x, size=(34, 44), **nn_args)
        else:
            x = torch.cat((F.interpolate(x, size=skip.shape[2:], **nn_args), skip), 1)
        for layer in step:
            x = conv(x, layer)
    logits = F.conv2d(x, model.conv_depth.weight, model.conv_depth.bias, padding=1)
    assert not any('upsample' in key for key in model.state_dict())
    torch.testing.assert_close(model((fine, middle, coarse)), 0.5 + 79.5 / (1 + torch.exp(-logits)))


@pytest.mark.parametrize('mode', ['nearest', 'bilinear'])
def test_a_mode_by_name_is_the_same_where_the_sizes_are_even(mode):
    inputs = maps([(16, 24), (8, 12), (4, 6)])
    named, plain = head(upsample_cfg=mode), head(upsample_cfg=dict(mode=mode))
    named.load_state_dict(plain.state_dict())
    torch.testing.assert_close(named(inputs), plain(inputs))


@pytest.mark.parametrize('name', [name for name in list_upsamplers() if name != 'SAPA-I'])
def test_an_upsampler_for_each_step_and_odd_sizes(name):
    model = head(upsample_cfg=dict(type=name))
    assert len(model.upsample_modules) == 3
    model.init_weights()
    out = model(maps())
    out.sum().backward()
    assert out.shape == (2, 1, 34, 44)
    assert all(p.grad is not None for p in model.parameters())


def test_a_guided_one_sees_the_finer_map_and_ends_bilinear():
    calls = []

    @MODELS.register_module(name='Recorder', force=True)
    class Recorder(torch.nn.Module):
        guided = True

        def __init__(self, in_channels, guide_channels, scale_factor=2):
            super().__init__()
            self.channels, self.scale_factor = (in_channels, guide_channels), scale_factor

        def forward(self, x, guide):
            calls.append((self, guide))
            return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    try:
        model = head(upsample_cfg='Recorder')
    finally:
        MODELS.module_dict.pop('Recorder')
    inputs = maps([(16, 24), (8, 12), (4, 6)])
    model(inputs)
    assert [call[0] for call in calls] == list(model.upsample_modules[:2])
    assert [call[0].channels for call in calls] == [(96, 64), (64, 32)]
    assert all(torch.equal(call[1], finer) for call, finer in zip(calls, inputs[1::-1], strict=True))
    x = torch.randn(1, 32, 5, 7)
    torch.testing.assert_close(model.upsample_modules[2](x), F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False))


@pytest.mark.parametrize(
    ('name', 'weights', 'biases'),
    [('DySample', 46080, 128), ('DySample+', 92160, 128), ('DySample-S', 5760, 64), ('DySample-S+', 11520, 64)],
)
def test_what_it_adds_on_swin_t(name, weights, biases):
    """46.1K, 92.2K and 11.5K in the tables, which leave the biases out."""
    with torch.device('meta'):
        modules = DenseDepthHead(SWIN_T, upsample_cfg=name).upsample_modules
    assert len(modules) == 4
    assert sum(p.numel() for p in modules.parameters() if p.dim() == 4) == weights
    assert sum(p.numel() for p in modules.parameters() if p.dim() == 1) == biases


def test_initialisation():
    model = head(upsample_cfg='DySample+')
    model.init_weights()
    assert model.conv_depth.weight.std().item() == pytest.approx(0.01, rel=0.2)
    for module in model.upsample_modules:
        assert module.offset.weight.std().item() == pytest.approx(0.001, rel=0.1)
        assert module.scope.weight.eq(0).all()


def test_depth_stays_within_its_bounds():
    model = head(min_depth=0.25, max_depth=4.0)
    with torch.no_grad():
        model.conv_depth.weight.mul_(1e6)
    depth = model(maps())
    assert depth.min().item() == 0.25
    assert depth.max().item() == 4.0


def test_the_loss_is_silog_of_the_known_pixels():
    model = head(upsample_cfg='DySample')
    inputs, truth = maps(), 10 * torch.rand(2, 1, 67, 85)
    truth[torch.rand(truth.shape) < 0.3] = 0
    samples = [SegDataSample(gt_depth_map=PixelData(data=depth)) for depth in truth]
    loss = model.loss(inputs, samples, {})['loss_silog']
    shown = F.interpolate(model(inputs), size=(67, 85), mode='bilinear', align_corners=False)
    expected = []
    for depth, target in zip(shown, truth):
        d = [(p.log() - t.log()).double() for p, t in zip(depth.flatten(), target.flatten()) if t > 0]
        mean, square = sum(d) / len(d), sum(x * x for x in d) / len(d)
        expected.append((square - mean**2 / 2).sqrt())
    assert loss.item() == pytest.approx((sum(expected) / 2).item(), rel=1e-4)


def test_by_prefix_in_an_mmseg_config():
    init_default_scope('mmseg')
    model = MODELS.build(dict(type='mmdysample.DenseDepthHead', in_channels=CHANNELS, in_index=[1, 2, 3], upsample_cfg='DySample-S+'))
    assert type(model) is DenseDepthHead
    assert model((None, *maps())).shape == (2, 1, 34, 44)


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(upsample_cfg=dict(mode='nearest', size=3)), 'may only hold a mode, as in .*, got size'),
        (dict(upsample_cfg='DySampel'), 'unknown upsampler'),
        (dict(upsample_cfg=dict(type='DySample', scale_factor=4)), 'scale_factor must be 2, got 4'),
        (dict(upsample_cfg='SAPA-I'), 'got in_channels=96, guide_channels=64; SAPA-B takes any'),
        (dict(min_depth=0.0), '0 < min_depth < max_depth, in metres, got min_depth=0.0, max_depth=10.0'),
        (dict(min_depth=3, max_depth=2), 'got min_depth=3, max_depth=2'),
    ],
)
def test_bad_arguments(cfg, message):
    with pytest.raises(ValueError, match=message):
        head(**cfg)
