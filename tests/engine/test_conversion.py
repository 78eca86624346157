"""Weights of other networks, under the names and shapes that they were published with, give the same outputs in ours."""

import pytest
import torch
import torch.nn.functional as F
from conftest import mmdet_config
from mmengine.config import Config, ConfigDict
from reference import dysample_loop, reassemble_loop
from torch import nn

pytest.importorskip('mmdet')
from mmcv.ops.carafe import CARAFEPack
from mmdet.models.necks import FPN as StockFPN
from mmdet.models.necks import FPN_CARAFE
from mmdet.structures import DetDataSample

from mmdysample import FPN, DySamplePlus, build_upsampler
from mmdysample.engine.config import load_config
from mmdysample.engine.conversion import convert_checkpoint, convert_state
from mmdysample.engine.model import build_model
from mmdysample.engine.stock import use_stock_modules
from mmdysample.engine.upsampler import use_upsampler

CHANNELS = [4, 6, 8, 10]
SHAPES = 'configs/shapes/faster_rcnn_dysample_shapes.py'
MASK_SHAPES = 'configs/shapes/mask_rcnn_dysample_shapes.py'


class PublishedDySample(nn.Module):
    """DySample with the names and the arithmetic of the released files: a scope with a bias, and the sampling as a loop."""

    def __init__(self, channels, style='lp', groups=4, dyscope=False, bias=True):
        super().__init__()
        self.style, self.groups = style, groups
        sizes = (channels, 8 * groups) if style == 'lp' else (channels // 4, 2 * groups)
        self.offset = nn.Conv2d(*sizes, 1)
        if dyscope:
            self.scope = nn.Conv2d(*sizes, 1, bias=bias)
        quarter = torch.tensor([-0.25, 0.25])
        x, y = quarter.repeat(2), quarter.repeat_interleave(2)
        self.register_buffer('init_pos', torch.stack([x.repeat(groups), y.repeat(groups)]).reshape(1, -1, 1, 1))

    def forward(self, x):
        offset = self.predict(self.offset, x)
        scope = self.predict(self.scope, x).sigmoid() * 0.5 if hasattr(self, 'scope') else 0.25
        return dysample_loop(x, offset * scope + self.init_pos, 2, self.groups)

    def predict(self, conv, x):
        return conv(x) if self.style == 'lp' else F.pixel_unshuffle(conv(F.pixel_shuffle(x, 2)), 2)


PUBLISHED = {
    'DySample': dict(),
    'DySample+': dict(dyscope=True),  # as the Faster R-CNN of 2023-02
    'DySample+ without bias': dict(dyscope=True, bias=False),  # as the Mask R-CNN of 2024-03
    'DySample-S': dict(style='pl', groups=8),
    'DySample-S+': dict(style='pl', groups=8, dyscope=True),
}


def published_neck(levels=5, channels=8, **kind):
    """FPN_CARAFE with the authors' module in its list, which is the network of the released Faster and Mask R-CNN."""
    neck = FPN_CARAFE(CHANNELS, channels, levels, upsample_cfg=dict(type='nearest'))
    neck.upsample_modules = nn.ModuleList([PublishedDySample(channels, **kind) for _ in range(levels - 1)])
    return neck


def released(neck, wrapped=True, init_pos=True):
    """The state dict of a detector with random weights, everything in it non-zero."""
    neck.double()
    for parameter in neck.parameters():
        nn.init.normal_(parameter, std=0.3)
    prefix = 'module.neck.' if wrapped else 'neck.'
    return {f'{prefix}{name}': value for name, value in neck.state_dict().items() if init_pos or not name.endswith('init_pos')}


def in_a_model(neck):
    return nn.ModuleDict({'neck': neck}).double()


def maps(height=64, width=128):
    return tuple(torch.randn(1, c, height // stride, width // stride).double() for c, stride in zip(CHANNELS, (4, 8, 16, 32)))


@torch.no_grad()
def assert_same(inputs, theirs, *ours):
    expected = theirs(inputs)
    for neck in ours:
        for got, want in zip(neck(inputs), expected, strict=True):
            assert want.std() > 0.1
            torch.testing.assert_close(got, want, rtol=0, atol=1e-10)


@pytest.mark.parametrize('init_pos', [True, False])
@pytest.mark.parametrize('name', PUBLISHED)
def test_the_authors_four_upsamplers(name, init_pos):
    theirs = published_neck(**PUBLISHED[name])
    state = released(theirs, init_pos=init_pos)
    assert state['module.neck.lateral_convs.4.conv.weight'].shape == (8, 10, 3, 3)
    ours, again = (FPN(CHANNELS, 8, 5, upsample_cfg=name.split()[0], fuse_extra_levels=True) for _ in range(2))
    converted, changes = convert_state(state, in_a_model(ours), 'released.pth', 'ours')
    in_a_model(again).load_state_dict(converted)  # strictly, as whoever reads the file may
    assert_same(maps(), theirs, ours, again)
    assert all(value.dtype == torch.float64 for value in converted.values())
    told = {(change.change, change.what): change.number for change in changes}
    assert told.pop(('renamed', 'module.*')) == len(state)
    assert told.pop(('added', 'neck.upsample_modules.*.init_pos'), 0) == (0 if init_pos else 4)
    bias = PUBLISHED[name].get('dyscope') and PUBLISHED[name].get('bias', True)
    assert told.pop(('kept', 'neck.upsample_modules.*.scope.bias'), 0) == (4 if bias else 0)
    assert told == {}


HAMMING = {3: [0.08, 1.0, 0.08], 5: [0.08, 0.54, 1.0, 0.54, 0.08]}


def released_by_rivals(name, wrapped):
    """The weights of a neck with the names and shapes of the authors' fork of FPN_CARAFE, under the names of ours, and what is in the file.

    LDA-AQU's has a table of five dimensions; FreqFusion's has another list, and constants.
    """
    neck = FPN_CARAFE(CHANNELS, 32, 5, upsample_cfg=dict(type='nearest'))
    neck.upsample_modules = nn.ModuleList([build_upsampler(name, 32) for _ in range(4)])
    ours = {f'neck.{key}': nn.init.normal_(value.double(), std=0.3) for key, value in neck.state_dict().items()}
    theirs = dict(ours)
    if name == 'LDA-AQU':
        table = 'neck.upsample_modules.{}.relative_position_bias_table'
        theirs.update({table.format(i): ours[table.format(i)][None, :, None] for i in range(4)})
    if name == 'FreqFusion':
        for i in range(4):
            for kind, size in (('lowpass', 5), ('highpass', 3)):
                line = torch.tensor(HAMMING[size])
                theirs[f'neck.upsample_modules.{i}.hamming_{kind}'] = torch.outer(line, line)[None, None]
            quarter = torch.tensor([-0.25, 0.25])
            positions = torch.stack([quarter.repeat(8), quarter.repeat_interleave(2).repeat(4)])
            theirs[f'neck.upsample_modules.{i}.dysampler.init_pos'] = positions.reshape(1, -1, 1, 1)
        theirs = {key.replace('.upsample_modules.', '.alignment.'): value for key, value in theirs.items()}
    prefix = 'module.' if wrapped else ''
    return ours, {prefix + key: value for key, value in theirs.items()}


@pytest.mark.parametrize('wrapped', [True, False])
@pytest.mark.parametrize('name', ['LDA-AQU', 'FRFU', 'FreqFusion'])
def test_detectors_with_rivals(name, wrapped):
    wanted, state = released_by_rivals(name, wrapped)
    model = in_a_model(FPN(CHANNELS, 32, 5, upsample_cfg=name, fuse_extra_levels=True))
    converted, changes = convert_state(state, model, 'released.pth', 'ours')
    assert converted.keys() == wanted.keys()
    assert all(torch.equal(converted[key], value) for key, value in wanted.items())
    assert all(torch.equal(value, wanted[key]) for key, value in model.state_dict().items())
    told = {(change.change, change.what): change.number for change in changes}
    if wrapped:
        assert told.pop(('renamed', 'module.*')) == len(state)
    else:
        others = [key for key in state if '.alignment.' not in key]
        assert told.pop(('kept', '*')) == len(others)
    if name == 'FreqFusion':
        assert sum(number for (change, _), number in told.items() if change == 'dropped') == 3 * 4
        assert sum(number for (change, _), number in told.items() if change == 'renamed') == 20 * 4
    else:
        assert told == {}


def test_a_freqfusion_with_other_constants():
    _, state = released_by_rivals('FreqFusion', wrapped=False)
    model = in_a_model(FPN(CHANNELS, 32, 5, upsample_cfg='FreqFusion', fuse_extra_levels=True))
    flat = {key: torch.ones(1) if '.hamming_' in key else value for key, value in state.items()}
    with pytest.raises(ValueError, match=r'hamming_lowpass in released.pth is not .*hamming_window=False'):
        convert_state(flat, model, 'released.pth', 'ours')
    without = dict(type='FreqFusion', hamming_window=False)
    plain = in_a_model(FPN(CHANNELS, 32, 5, upsample_cfg=without, fuse_extra_levels=True))
    convert_state(flat, plain, 'released.pth', 'ours')
    with pytest.raises(ValueError, match=r'hamming_window=True'):
        convert_state(state, plain, 'released.pth', 'ours')
    moved = {key: value + 0.1 if key.endswith('init_pos') else value for key, value in state.items()}
    with pytest.raises(ValueError, match=r'init_pos in released.pth is not'):
        convert_state(moved, model, 'released.pth', 'ours')


@pytest.mark.parametrize('option', ['feature_resample_norm', 'feature_resample'])
def test_a_freqfusion_without_a_part(option):
    """The authors' Panoptic FPN has no norms. The message names the option, and with it the file converts."""
    cfg = {'type': 'FreqFusion', option: False}
    state = in_a_model(FPN(CHANNELS, 32, 5, upsample_cfg=cfg, fuse_extra_levels=True)).state_dict()
    theirs = {name.replace('.upsample_modules.', '.alignment.'): value for name, value in state.items()}
    whole = in_a_model(FPN(CHANNELS, 32, 5, upsample_cfg='FreqFusion', fuse_extra_levels=True))
    with pytest.raises(ValueError, match=rf"--upsampler \"dict\(type='FreqFusion', {option}=False\)\""):
        convert_state(theirs, whole, 'released.pth', 'ours')
    part = in_a_model(FPN(CHANNELS, 32, 5, upsample_cfg=cfg, fuse_extra_levels=True))
    assert convert_state(theirs, part, 'released.pth', 'ours')[0].keys() == state.keys()


def test_options_for_a_file_of_freqfusion():
    _, state = released_by_rivals('FreqFusion', wrapped=True)
    model = in_a_model(FPN(CHANNELS, 32, 5, upsample_cfg='DySample', fuse_extra_levels=True))
    with pytest.raises(ValueError, match=r'--upsampler FreqFusion'):
        convert_state(state, model, 'released.pth', 'ours')


def test_the_authors_three_upsamplers():
    """Panoptic FPN: plain FPN, whose P6 is a max-pooled P5."""
    theirs = published_neck(levels=4, dyscope=True)
    ours = FPN(CHANNELS, 8, 5, upsample_cfg='DySample+')
    convert_state(released(theirs, wrapped=False), in_a_model(ours), 'released.pth', 'ours')
    assert_same(maps(), lambda x: (*(outs := theirs(x)), F.max_pool2d(outs[-1], 1, stride=2)), ours)


FPN_CARAFE_CONFIGS = [
    (dict(type='nearest'), 'nearest'),
    (dict(type='bilinear'), 'bilinear'),
    (dict(type='deconv', upsample_kernel=3), 'deconv'),
    (dict(type='deconv', upsample_kernel=4), dict(type='deconv', kernel_size=4)),
    (dict(type='pixel_shuffle', upsample_kernel=3), 'pixel_shuffle'),
    (dict(type='pixel_shuffle', upsample_kernel=1), dict(type='pixel_shuffle', upsample_kernel=1)),
    (dict(type='carafe'), 'CARAFE'),
    (
        dict(type='carafe', up_kernel=3, up_group=2, encoder_kernel=5, encoder_dilation=2, compressed_channels=7),
        dict(type='CARAFE', up_kernel=3, up_group=2, encoder_kernel=5, encoder_dilation=2, compressed_channels=7),
    ),
]


@pytest.fixture
def carafe_anywhere(monkeypatch):
    """mmcv's operator runs on CUDA alone; the rest of its module stays."""

    def reassemble(self, x, mask):
        return reassemble_loop(x, mask, self.scale_factor, self.up_group)

    monkeypatch.setattr(CARAFEPack, 'feature_reassemble', reassemble)


@pytest.mark.usefixtures('carafe_anywhere')
@pytest.mark.parametrize('start_level', [0, 1])
@pytest.mark.parametrize(('stock', 'cfg'), FPN_CARAFE_CONFIGS, ids=str)
def test_fpn_carafe_there_and_back(stock, cfg, start_level):
    """Its fifth lateral is the extra one, its fourth upsampler the one from P6 to P5."""
    theirs = FPN_CARAFE(CHANNELS, 4, 5, start_level=start_level, upsample_cfg=ConfigDict(stock))
    ours = FPN(CHANNELS, 4, 5, start_level=start_level, upsample_cfg=cfg, fuse_extra_levels=True)
    state = released(theirs)
    converted, _ = convert_state(state, in_a_model(ours), 'stock.pth', 'ours')
    config = Config(dict(model=dict(neck=dict(type='mmdysample.FPN', fuse_extra_levels=True, upsample_cfg=cfg))))
    config.model.neck.update(in_channels=CHANNELS, out_channels=4, num_outs=5, start_level=start_level)
    use_stock_modules(config)
    assert config.model.neck.pop('type') == 'FPN_CARAFE'
    back = FPN_CARAFE(**config.model.neck)
    convert_state(converted, in_a_model(back), 'ours.pth', 'stock')
    # Where the path starts one level later, there are two levels above C5; the last has the stride 128.
    assert_same(maps(128, 256) if start_level else maps(), theirs, ours, back)


@pytest.mark.parametrize('extra', [dict(), dict(start_level=1, add_extra_convs='on_output', relu_before_extra_convs=True)], ids=str)
@pytest.mark.parametrize('mode', ['nearest', 'bilinear'])
@pytest.mark.parametrize('by_name', [True, False])
def test_fpn_there_and_back(mode, by_name, extra):
    theirs = StockFPN(CHANNELS, 8, 5, upsample_cfg=dict(mode=mode), **extra)
    cfg = dict(type=mode) if by_name else dict(mode=mode)
    ours = FPN(CHANNELS, 8, 5, upsample_cfg=cfg, **extra)
    converted, _ = convert_state(released(theirs), in_a_model(ours), 'stock.pth', 'ours')
    config = Config(dict(model=dict(neck=dict(type='mmdysample.FPN', upsample_cfg=cfg, **extra))))
    config.model.neck.update(in_channels=CHANNELS, out_channels=8, num_outs=5)
    use_stock_modules(config)
    assert config.model.neck.pop('type') == 'FPN'
    back = StockFPN(**config.model.neck)
    convert_state(converted, in_a_model(back), 'ours.pth', 'stock')
    assert_same(maps(), theirs, ours, back)


@pytest.mark.parametrize(
    ('stock', 'ours', 'upsampler', 'options'),
    [
        ('carafe/faster-rcnn_r50_fpn-carafe_1x_coco.py', 'faster_rcnn', 'CARAFE', {}),
        (
            'carafe/mask-rcnn_r50_fpn-carafe_1x_coco.py',
            'mask_rcnn',
            'CARAFE',
            {'model.roi_head.mask_head.upsample_cfg': dict(type='carafe', scale_factor=2)},
        ),
        ('faster_rcnn/faster-rcnn_r101_fpn_1x_coco.py', 'faster_rcnn_r101', 'nearest', {'model.neck.fuse_extra_levels': False}),
        ('panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py', 'panoptic_fpn', 'nearest', {}),
    ],
)
def test_whole_detectors_have_the_same_names(stock, ours, upsampler, options):
    path = mmdet_config(stock)
    config = load_config(f'configs/{ours}_dysample.py', options)
    use_upsampler(config, upsampler)
    with torch.device('meta'):
        theirs, model = build_model(Config.fromfile(path)), build_model(config)
        converted, changes = convert_state(theirs.state_dict(), model, 'stock.pth', 'ours')
        assert [(change.change, change.number) for change in changes] == [('kept', len(converted))]
        use_stock_modules(config)
        assert type(build_model(config).neck) is type(theirs.neck)
        convert_state(converted, build_model(config), 'ours.pth', 'stock')


@torch.no_grad()
def test_the_same_detections():
    """A whole detector as the authors built theirs, narrow, and its file in the dress of mmdet 2."""
    config = load_config(SHAPES)
    use_upsampler(config, 'DySample+')
    model = build_model(config).eval()
    use_upsampler(config, 'nearest')
    use_stock_modules(config)
    theirs = build_model(config).eval()
    assert type(theirs.neck) is FPN_CARAFE
    theirs.neck.upsample_modules = nn.ModuleList([DySamplePlus(64) for _ in range(4)])
    for i, module in enumerate(theirs.neck.upsample_modules):
        nn.init.normal_(module.offset.weight, std=0.3)
        nn.init.normal_(module.scope.weight, std=0.3)
        if i > 1:
            module.scope.bias = nn.Parameter(torch.randn(32))
    file = {
        'state_dict': theirs.state_dict(),
        'optimizer': {'state': {}},
        'meta': {'CLASSES': ('circle', 'square'), 'config': 'model = ...'},
    }
    converted, _ = convert_checkpoint(file, model, 'released.pth', SHAPES)
    assert converted.keys() == {'state_dict', 'meta'}
    assert converted['meta'].keys() == {'mmdysample_version', 'converted_from', 'dataset_meta'}
    assert converted['meta']['dataset_meta'] == {'classes': ('circle', 'square')}
    image = torch.randn(1, 3, 64, 128)
    sizes = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape'), (64, 128))
    got, expected = (
        detector.predict(image, [DetDataSample(metainfo=dict(sizes, scale_factor=(1.0, 1.0)))])[0].pred_instances
        for detector in (model, theirs)
    )
    assert len(expected) > 5
    for key in ('bboxes', 'scores', 'labels'):  # a bias in the convolution rounds otherwise than one that is added to its result
        torch.testing.assert_close(got[key], expected[key], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('kind', 'config', 'message'),
    [
        (
            dict(style='pl', groups=8, dyscope=True),
            'DySample+',
            r'^neck\.upsample_modules\.0\.offset\.weight is \(16, 2, 1, 1\) in a\.pth and \(32, 8, 1, 1\) in b\.py; '
            r'the options that fit the file are --upsampler DySample-S\+$',
        ),
        (dict(groups=2), 'DySample', r"""the options that fit the file are --upsampler "dict\(type='DySample', groups=2\)"$"""),
        (dict(dyscope=True), 'DySample', r'^b\.py has no place for 8 weights: neck\..* and 5 more; .* --upsampler DySample\+$'),
        (
            dict(),
            'DySample+',
            r'^a\.pth lacks 4 weights: neck\.upsample_modules\.0\.scope\.weight, .* and 1 more; .* --upsampler DySample$',
        ),
        (dict(), 'nearest', r'has no place for 12 weights: .*; the options that fit the file are --upsampler DySample$'),
        (dict(), 'deconv', r'the options that fit the file are --upsampler DySample$'),
    ],
)
def test_another_upsampler_is_named(kind, config, message):
    model = in_a_model(FPN(CHANNELS, 8, 5, upsample_cfg=config, fuse_extra_levels=True))
    with pytest.raises(ValueError, match=message):
        convert_state(released(published_neck(**kind)), model, 'a.pth', 'b.py')


def test_another_model_is_not_taken_for_another_upsampler():
    model = in_a_model(FPN(CHANNELS, 8, 5, upsample_cfg='DySample+', fuse_extra_levels=True))
    model['roi_head'] = nn.Conv2d(8, 4, 1).double()
    file = {**released(published_neck(dyscope=True, groups=2), wrapped=False), 'roi_head.weight': torch.zeros(4, 16, 1, 1)}
    with pytest.raises(ValueError, match=r'^roi_head\.weight is \(4, 16, 1, 1\) in a\.pth .* in b\.py: the file belongs to another model$'):
        convert_state(file, model, 'a.pth', 'b.py')


@pytest.mark.parametrize(
    ('stock', 'name'), [(stock, name) for stock, name in FPN_CARAFE_CONFIGS if isinstance(name, str) and name != 'bilinear']
)
def test_stock_upsamplers_are_named(stock, name):
    theirs = FPN_CARAFE(CHANNELS, 8, 5, upsample_cfg=ConfigDict(stock))
    model = in_a_model(FPN(CHANNELS, 8, 5, upsample_cfg='DySample', fuse_extra_levels=True))
    twin = r' \(or bilinear, which also has no weights\)' if name == 'nearest' else ''
    with pytest.raises(ValueError, match=f'the options that fit the file are --upsampler {name}{twin}$'):
        convert_state(released(theirs), model, 'a.pth', 'b.py')


@pytest.mark.parametrize('fused', [True, False])
def test_another_pyramid_is_named(fused):
    theirs = published_neck() if fused else StockFPN(CHANNELS, 8, 5)
    model = in_a_model(FPN(CHANNELS, 8, 5, upsample_cfg='DySample', fuse_extra_levels=not fused))
    upsampler, twin = ('', '') if fused else ('--upsampler nearest ', r' \(or bilinear, .*')
    with pytest.raises(
        ValueError, match=f'the options that fit the file are {upsampler}--cfg-options model.neck.fuse_extra_levels={fused}{twin}$'
    ):
        convert_state(released(theirs), model, 'a.pth', 'b.py')


def test_the_options_that_are_named_fit():
    """A file of mmdet's plain FPN for a config with four DySamples."""
    theirs = StockFPN(CHANNELS, 8, 5)
    model = in_a_model(FPN(CHANNELS, 8, 5, upsample_cfg='nearest', fuse_extra_levels=False))
    convert_state(released(theirs), model, 'a.pth', 'b.py')


def test_what_is_no_upsamplers_fault():
    name = 'neck.lateral_convs.1.conv.weight'
    theirs = published_neck()
    state = {**released(theirs, wrapped=False), name: torch.zeros(8, 7, 1, 1)}
    model = in_a_model(FPN(CHANNELS, 8, 5, upsample_cfg='DySample', fuse_extra_levels=True))
    said = (
        r'^neck\.lateral_convs\.1\.conv\.weight is \(8, 7, 1, 1\) in a\.pth and \(8, 6, 1, 1\) in b\.py: the file belongs to another model$'
    )
    with pytest.raises(ValueError, match=said):
        convert_state(state, model, 'a.pth', 'b.py')


def test_points_that_start_elsewhere():
    """A module of another kind may have the same names."""
    theirs = published_neck()
    model = in_a_model(FPN(CHANNELS, 8, 5, upsample_cfg='DySample', fuse_extra_levels=True))
    theirs.upsample_modules[2].init_pos *= 2
    with pytest.raises(
        ValueError, match=r'^neck\.upsample_modules\.2\.init_pos in a\.pth differs from the initial sampling positions of b\.py$'
    ):
        convert_state(released(theirs), model, 'a.pth', 'b.py')
    theirs.upsample_modules[2].init_pos *= 0
    with pytest.raises(ValueError, match="init_position='nearest'"):
        convert_state(released(theirs), model, 'a.pth', 'b.py')


def test_weights_with_and_without_a_prefix():
    with pytest.raises(ValueError, match='both with and without the prefix'):
        convert_state({'weight': torch.zeros(1), 'module.weight': torch.zeros(1)}, nn.Module(), 'a.pth', 'b.py')


@pytest.mark.parametrize(
    ('config', 'options', 'message'),
    [
        (SHAPES, {}, r"model\.neck: mmdet's FPN_CARAFE supports nearest, bilinear, .*, not DySample; .* add --upsampler"),
        (SHAPES, {'model.neck.fuse_extra_levels': False}, r"model\.neck: mmdet's FPN supports only interpolation, not DySample"),
        (
            SHAPES,
            {'model.neck.upsample_cfg': dict(type='deconv', bias=False, _delete_=True), 'model.neck.no_norm_on_lateral': True},
            r"mmdet's FPN_CARAFE does not support bias, no_norm_on_lateral$",
        ),
        (
            'configs/shapes/segformer_b1_dysample_shapes.py',
            {},
            r'decode_head: the stock SegformerHead supports no upsample_cfg with a type, got DySample',
        ),
        ('configs/shapes/rtdetr_r18_dysample_shapes.py', {'model.neck.upsample_cfg': None}, 'mmdet and mmseg have no mmdysample'),
        (
            MASK_SHAPES,
            {
                'model.neck.upsample_cfg.type': 'nearest',
                'model.roi_head.mask_head.type': 'mmdysample.FCNMaskHead',
                'model.roi_head.mask_head.upsample_cfg': dict(type='DySample'),
            },
            r"mask_head: mmdet's FCNMaskHead supports .*, not DySample",
        ),
    ],
)
def test_what_has_no_stock_form(config, options, message):
    pytest.importorskip('mmseg')
    with pytest.raises(ValueError, match=message):
        use_stock_modules(load_config(config, options))


@pytest.mark.parametrize('kind', ['CARAFE', 'deconv', 'bilinear'])
def test_the_mask_head_there_and_back(kind):
    options = {'model.roi_head.mask_head.type': 'mmdysample.FCNMaskHead', 'model.roi_head.mask_head.upsample_cfg': dict(type=kind)}
    config = load_config(MASK_SHAPES, {**options, 'model.neck.upsample_cfg.type': 'nearest'})
    ours = build_model(config)
    lines = use_stock_modules(config)
    assert any('mask_head: FCNMaskHead' in line for line in lines)
    assert config.model.roi_head.mask_head.type == 'FCNMaskHead'
    stock = build_model(config)
    converted, _ = convert_state(ours.state_dict(), stock, 'ours.pth', 'stock')
    convert_state(converted, ours, 'stock.pth', 'ours')


def test_a_stock_head_without_upsamplers():
    pytest.importorskip('mmseg')
    config = load_config('configs/shapes/segformer_b1_dysample_shapes.py', {'model.decode_head.upsample_cfg': None})
    ours = build_model(config)
    assert use_stock_modules(config) == ['model.decode_head: SegformerHead, upsample_cfg=none']
    convert_state(ours.state_dict(), build_model(config), 'ours.pth', 'stock')
