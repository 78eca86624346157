"""Which calls enlarge what the model returns, such as class maps."""

import warnings
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmdysample import replace_upsample

IMAGE = torch.randn(2, 3, 16, 16)


class Net(nn.Module):
    """A x2 after a convolution; ``after`` says what becomes of it."""

    def __init__(self, after):
        super().__init__()
        self.after = after
        self.stem = nn.Conv2d(3, 8, 2, stride=2)
        self.conv = nn.Conv2d(8, 8, 1)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 1))
        self.norm = nn.BatchNorm2d(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))

    def forward(self, image):
        x = self.stem(image)
        return self.after(self, F.interpolate(x, scale_factor=2), image)


@dataclass
class Result:
    logits: torch.Tensor


def in_place(net, up, image):
    out = torch.zeros(up.shape)
    out[:, :, 2:] = up[:, :, 2:]
    return out


def skip_and_again(net, up, image):
    """The fully convolutional network of 2015: class maps are added, and enlarged again."""
    return F.interpolate(up + F.interpolate(net.stem(image), scale_factor=2), scale_factor=2)


LEAVING = {
    'itself': lambda net, up, image: up,
    'softmax': lambda net, up, image: up.softmax(1),
    'argmax': lambda net, up, image: up.argmax(1),
    'a loss': lambda net, up, image: F.cross_entropy(up, image[:, 0].long().clamp(0, 7)),
    'a dict': lambda net, up, image: {'out': [up.flatten(2)], 'aux': None},
    'a dataclass': lambda net, up, image: Result(up),
    'objects': lambda net, up, image: [SimpleNamespace(inner=SimpleNamespace(mask=one)) for one in up],
    'a crop': lambda net, up, image: up[..., 1:-1],
    'dropout': lambda net, up, image: F.dropout(up),
    'assigned': in_place,
    'added in place': lambda net, up, image: torch.zeros(up.shape).add_(up),
    'resized down': lambda net, up, image: F.interpolate(up, scale_factor=0.5),
    'added to features': lambda net, up, image: up + F.interpolate(net.conv(net.stem(image)), scale_factor=2),
    'also used': lambda net, up, image: (net.conv(up), up),
}
STAYING = {
    'convolution': lambda net, up, image: net.conv(up),
    'functional': lambda net, up, image: F.conv2d(up.relu(), net.conv.weight),
    'weight norm': lambda net, up, image: net.normed(torch.cat([up])),
    'batch norm': lambda net, up, image: net.norm(up),
    'attention': lambda net, up, image: net.attention(*[up.flatten(2).transpose(1, 2)] * 3)[0],
    'scale': lambda net, up, image: up * net.scale,
    'scaled in place': lambda net, up, image: up.mul_(net.scale),
    'derived weight': lambda net, up, image: up * net.scale.exp(),
    'matrix': lambda net, up, image: up.flatten(2).transpose(1, 2) @ net.conv.weight[:, :, 0, 0],
    'residual': lambda net, up, image: up + net.conv(up),
    'residual in place': lambda net, up, image: up.add_(net.conv(up)),
    'two residuals': lambda net, up, image: F.relu(torch.add(net.conv(F.relu(net.norm(net.conv(up)))), up)),
    'nothing': lambda net, up, image: net.stem(image),
    'used': lambda net, up, image: net.conv(skip_and_again(net, up, image)),
}


def report_of(after):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return replace_upsample(Net(after), 'DySample', IMAGE)


@pytest.mark.parametrize('name', LEAVING)
def test_what_leaves_is_marked_and_warned_about(name):
    with pytest.warns(
        UserWarning, match='replace_upsample: Net:0.* enlarged what the model returns, with no trained layer after it'
    ) as seen:
        report = replace_upsample(Net(LEAVING[name]), 'DySample', IMAGE)
    assert report.sites[0].leaves
    assert 'DySample x2 (class map?)' in str(report)
    assert seen[0].filename == __file__


@pytest.mark.parametrize('name', STAYING)
def test_what_a_trained_layer_reads_is_not(name):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        report = replace_upsample(Net(STAYING[name]), 'DySample', IMAGE)
    assert not any(site.leaves for site in report.sites)
    assert 'class map' not in str(report)


def test_each_call_on_the_way_is_marked():
    assert [site.leaves for site in report_of(skip_and_again).sites] == [True, True, True]
    assert [site.leaves for site in report_of(lambda net, up, image: F.interpolate(net.conv(up), scale_factor=2)).sites] == [False, True]


@pytest.mark.parametrize('classes', [21, 20, 8, 2])
def test_the_number_of_classes_does_not_matter(classes):
    net = nn.Sequential(nn.Conv2d(3, 16, 3, 4, 1), nn.ReLU(), nn.Conv2d(16, classes, 1), nn.UpsamplingBilinear2d(scale_factor=4))
    if classes % 4:
        with pytest.raises(ValueError, match=r'3: in_channels must be divisible .* \(class map\?\)'):
            replace_upsample(net, 'DySample', IMAGE)
    else:
        with pytest.warns(UserWarning, match=r"exclude it: exclude=\['3'\]"):
            assert replace_upsample(net, 'DySample', IMAGE).sites[0].leaves


def test_an_excluded_class_map_is_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        report = replace_upsample(
            Net(lambda net, up, image: F.interpolate(net.conv(up), scale_factor=2)), 'DySample', IMAGE, exclude='Net:1'
        )
    assert [site.leaves for site in report.left] == [True]
    assert 'left: in exclude (class map?)' in str(report)


@pytest.mark.parametrize(
    ('arguments', 'what'),
    [
        (('DySample', Net(LEAVING['itself']), IMAGE), 'the model is in the wrong place: .* got arguments of the types str, Net, Tensor'),
        ((IMAGE, 'DySample', Net(LEAVING['itself'])), 'the model is in the wrong place: .* got arguments of the types Tensor, str, Net'),
        ((Net(LEAVING['itself']), IMAGE, 'DySample'), 'the upsampler is in the wrong place: .* of the types Net, Tensor, str'),
        (
            (Net(LEAVING['itself']), (IMAGE,), dict(type='DySample')),
            'the upsampler is in the wrong place: .* of the types Net, tuple, dict',
        ),
        (('DySample', IMAGE, None), "replace_upsample needs an nn.Module, got 'DySample'"),
    ],
    ids=['model second', 'model last', 'example second', 'config last', 'no model'],
)
def test_arguments_in_another_order(arguments, what):
    with pytest.raises(ValueError, match=what):
        replace_upsample(*arguments)
