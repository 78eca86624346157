import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, init_default_scope

pytest.importorskip('mmseg')
from mmseg.models.backbones import ResNet

from mmdysample import FullResNet

NARROW = dict(stem_channels=8, base_channels=8)


def evaluating(model):
    model.double().eval()  # which in mmseg's ResNet answers None
    return model


def randomise(model):
    """Weights, and statistics of batch normalisation, that all matter."""
    for key, tensor in model.state_dict().items():
        if 'running_var' in key:
            tensor.uniform_(0.5, 2)
        elif tensor.dim() == 1:
            tensor.uniform_(-0.5, 1)
    return evaluating(model)


def by_hand(weights, x):
    """ResNet-18 of torch's functions alone: the basic block of He et al., with strides of 1 and 2 in the stem, and 2 in each stage."""

    def normed(conv, norm, x, **kwargs):
        x = F.conv2d(x, weights[f'{conv}.weight'], **kwargs)
        mean, variance, weight, bias = (weights[f'{norm}.{key}'] for key in ('running_mean', 'running_var', 'weight', 'bias'))
        return (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt() * weight[:, None, None] + bias[:, None, None]

    x = normed('conv1', 'bn1', x, padding=3).clamp(min=0)
    maps = [x]
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    maps.append(x)
    for stage in range(1, 5):
        for block, stride in ((0, 2), (1, 1)):
            name = f'layer{stage}.{block}'
            y = normed(f'{name}.conv1', f'{name}.bn1', x, stride=stride, padding=1).clamp(min=0)
            y = normed(f'{name}.conv2', f'{name}.bn2', y, padding=1)
            shortcut = normed(f'{name}.downsample.0', f'{name}.downsample.1', x, stride=stride) if block == 0 else x
            x = (y + shortcut).clamp(min=0)
        maps.append(x)
    return maps


def test_resnet18_by_hand():
    model = randomise(FullResNet(depth=18, **NARROW))
    x = torch.randn(2, 3, 37, 83, dtype=torch.float64)
    maps = model(x)
    assert [tuple(y.shape) for y in maps] == [
        (2, channels, -(-37 // stride), -(-83 // stride))
        for channels, stride in zip((8, 8, 8, 16, 32, 64), (1, 2, 4, 8, 16, 32), strict=True)
    ]
    for ours, expected in zip(maps, by_hand(model.state_dict(), x), strict=True):
        assert expected.any()
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('size', [(64, 96), (37, 83)])
def test_it_is_the_stock_one_but_for_two_strides(size):
    """ResNet-50 takes the stock weights. Every second pixel of its stem is the stock stem's; its stages are the stock ones."""
    stock = randomise(ResNet(depth=50, **NARROW))
    ours = evaluating(FullResNet(depth=50, **NARROW))
    ours.load_state_dict(stock.state_dict())
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    maps = ours(x)
    torch.testing.assert_close(maps[0][:, :, ::2, ::2], stock.relu(stock.norm1(stock.conv1(x))))
    torch.testing.assert_close(maps[1], stock.maxpool(maps[0]))
    for i, name in enumerate(('layer2', 'layer3', 'layer4')):
        torch.testing.assert_close(maps[i + 3], getattr(stock, name)(maps[i + 2]))
    first = evaluating(ResNet(depth=50, **NARROW, strides=(2, 2, 2, 2)))
    first.load_state_dict(stock.state_dict())
    torch.testing.assert_close(maps[2], first.layer1(maps[1]))


@pytest.mark.parametrize(('depth', 'more'), [(18, {'layer1.0.downsample'}), (50, set())])
def test_keys(depth, more):
    """Those of the stock one; where that needs no convolution in the shortcut of the first stage, this one does."""
    with torch.device('meta'):
        ours, stock = FullResNet(depth=depth).state_dict(), ResNet(depth=depth).state_dict()
    assert all(ours[key].shape == tensor.shape for key, tensor in stock.items())
    assert {key.rsplit('.', 2)[0] for key in ours.keys() - stock.keys()} == more


def test_initialisation_and_training():
    init_default_scope('mmseg')
    model = MODELS.build(dict(type='mmdysample.FullResNet', depth=18, stem_channels=16, base_channels=32, norm_cfg=dict(type='BN')))
    assert type(model) is FullResNet
    model.init_weights()
    for conv, fan_out in ((model.conv1, 16 * 49), (model.layer1[0].conv1, 32 * 9), (model.layer1[0].downsample[0], 32)):
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
    assert model.layer4[1].bn1.weight.eq(1).all()
    assert model.layer4[1].bn2.weight.eq(0).all()  # a block starts as the identity
    sum(y.sin().sum() for y in model(torch.randn(2, 3, 37, 53))).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize('fixed', [dict(strides=(1, 2, 2, 2)), dict(out_indices=(0, 1)), dict(num_stages=3), dict(deep_stem=True)])
def test_bad_arguments(fixed):
    with pytest.raises(ValueError, match=f'four stages, each of stride 2, and returns every map: leave out {next(iter(fixed))}'):
        FullResNet(depth=18, **fixed)
