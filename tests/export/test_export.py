"""Every form of the upsampler, the neck and a whole model, and every way in which an export goes wrong."""

import os
import re
import signal
import sys
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')
from mmdysample import build_upsampler
from mmdysample.export import forms
from mmdysample.export.check import Difference, MismatchError, require_within
from mmdysample.export.export import export
from mmdysample.export.forms import Onnx, Program
from mmdysample.export.runtimes import OpenVINO
from mmdysample.export.signal_stack import current_signal_stack
from mmdysample.export.subject import Images, make_subject
from mmdysample.export.targets import make_form
from mmdysample.functional.capture import DEFORM_CONV, GATHERS, GRID_SAMPLE

FORMS = [(16, 'tracing'), (18, 'tracing'), (20, 'tracing'), (18, 'capturing'), (20, 'capturing'), 'torch-export']
BOTH = pytest.mark.parametrize('gathers', [False, True], ids=['GridSample', 'gathers'])


def form_of(which, gathers=False):
    sampling = GATHERS if gathers else GRID_SAMPLE
    return Program(sampling) if which == 'torch-export' else Onnx(*which, sampling)


def randomised(model):
    """With points that lie anywhere: new ones lie where bilinear interpolation has them, which other runtimes have, too."""
    for name, parameter in model.named_parameters():
        if '.offset.' in f'.{name}' or '.scope.' in f'.{name}':
            nn.init.normal_(parameter, std=0.2)
    return model.eval()


class Pyramid(nn.Module):
    """Maps of strides 2, 4 and 8, and a neck."""

    def __init__(self, neck):
        super().__init__()
        channels = (3, 8, 16, 24)
        self.stages = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(channels))
        self.neck = neck

    def forward(self, image):
        maps = []
        for stage in self.stages:
            image = stage(image)
            maps.append(image)
        return self.neck(tuple(maps))


def upsampler(name='DySample+'):
    return randomised(nn.Sequential(nn.Conv2d(3, 64, 3, 2, 1), build_upsampler(name, 64)))


def neck():
    pytest.importorskip('mmdet')
    from mmdysample import FPN

    return randomised(Pyramid(FPN([8, 16, 24], 16, num_outs=4, upsample_cfg='DySample')))


def load_segformer(**options):
    pytest.importorskip('mmseg')
    from mmdysample.engine.config import load_config
    from mmdysample.pictures.loaded_model import load_model

    config = load_config('configs/segformer_b1_dysample.py', {'model.backbone.init_cfg': None, **options})
    return randomised(load_model(config).model.cpu())


@pytest.fixture(scope='module')
def segformer():
    """With one block for each stage, where B1 has two."""
    return load_segformer(**{'model.backbone.num_layers': [1, 1, 1, 1]})


def check(model, which, path, gathers, **arguments):
    """Export, and compare with PyTorch once more, at a size of our own."""
    form = form_of(which, gathers)
    exported = export(model, form, path, **arguments)
    images = exported.subject.images
    larger = images._replace(height=images.height + 64, width=images.width + 128)
    batches = [images._replace(batch=2), larger._replace(batch=3), larger._replace(batch=1)]
    assert [found.images for found in exported.differences[:: len(exported.subject.outputs)]] == batches * len(form.runtimes)
    for runtime, bound in (('onnxruntime', 1e-5), ('torch', 1e-5), ('OpenVINO', 3e-5)):  # OpenVINO rounds coordinates more coarsely
        assert max((found.relative for found in exported.differences if found.runtime.startswith(runtime)), default=0) < bound
    assert not any(module.training for module in model.modules())
    samples = [name for name in form.operators(path) if re.search('grid_?sample', name, flags=re.I)]
    assert bool(samples) != gathers
    inputs = exported.subject.inputs_for(Images(5, 64, 320))
    run = form.runtimes[0].open(path)
    for ours, theirs in zip(run(inputs), exported.subject(inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    return exported


@BOTH
@pytest.mark.parametrize('which', FORMS, ids=str)
def test_the_upsampler(which, gathers, tmp_path):
    exported = check(upsampler(), which, tmp_path / 'file', gathers, part='1', size=(32, 48))
    assert list(exported.subject.inputs) == ['x']
    assert exported.sizes.startswith('any; ')


def test_all_that_samples_goes_without_grid_sample(tmp_path):
    check(upsampler('DySample-S'), (16, 'tracing'), tmp_path / 'file', True, size=(32, 48))
    model = Guided(build_upsampler('SAPA-D', 16)).eval()
    check(model, (16, 'tracing'), tmp_path / 'file', True, part='upsampler', size=(32, 48))


class Guided(nn.Module):
    def __init__(self, upsampler, channels=16):
        super().__init__()
        self.stem, self.down, self.upsampler = nn.Conv2d(3, channels, 3, 2, 1), nn.Conv2d(channels, channels, 2, 2), upsampler

    def forward(self, image):
        guide = self.stem(image)
        return self.upsampler(self.down(guide), guide)


@pytest.mark.parametrize(('which', 'gathers'), [((16, 'tracing'), False), ((16, 'tracing'), True), ((20, 'capturing'), True)], ids=str)
def test_the_neck(which, gathers, tmp_path):
    exported = check(neck(), which, tmp_path / 'file', gathers, part='neck')
    assert list(exported.subject.inputs) == [f'inputs_{i}' for i in range(3)]
    assert exported.subject.outputs == tuple(f'output_{i}' for i in range(4))
    assert exported.sizes.startswith('any; ')


def test_the_neck_as_a_program_takes_what_needs_no_crop(tmp_path):
    exported = check(neck(), 'torch-export', tmp_path / 'file', True, part='neck')
    assert exported.sizes == 'multiples of 32; 1x3x133x203 is refused'


@pytest.mark.parametrize(
    ('which', 'gathers'),
    [((16, 'tracing'), True), ((20, 'tracing'), False)],
    ids=str,
)
def test_segformer(which, gathers, segformer, tmp_path):
    exported = check(segformer, which, tmp_path / 'file', gathers, size=(64, 96))
    assert exported.subject.outputs == ('logits',)
    assert exported.differences[0].shape == (2, 150, 64, 96)
    assert sum('GridSample' in name for name in exported.operators) == (0 if gathers else 6)
    assert exported.sizes.startswith('any; ')


@pytest.mark.slow
def test_segformer_as_a_program(segformer, tmp_path):
    check(segformer, 'torch-export', tmp_path / 'file', False, size=(64, 96))


def refusal(model, which, path, gathers=False, **arguments):
    """The one line; nothing is left, and what was there before stays."""
    path.write_text('before')
    with pytest.raises(ValueError, match=r'\w') as error:
        export(model, form_of(which, gathers), path, size=(32, 48), **arguments)
    assert path.read_text() == 'before'
    assert list(path.parent.iterdir()) == [path]
    assert '\n' not in str(error.value)
    return str(error.value)


class Sized(nn.Module):
    """Makes numbers of sizes, which exporters take for good."""

    def forward(self, image):
        return F.interpolate(image, (2 * int(image.shape[2]), 2 * int(image.shape[3])))


class Scaled(nn.Module):
    """Likewise, in values alone."""

    def forward(self, image):
        return image * float(int(image.shape[2]))


def test_a_size_that_is_not_kept_open_is_found(tmp_path):
    path = tmp_path / 'file'
    words = 'but deleted, because in onnxruntime .* on 3x3x96x176 its outputs have the shapes .*--fixed for images of one size'
    assert re.search(words, refusal(Sized(), (16, 'tracing'), path))
    assert re.search('on 3x3x96x176 its output differs from that of PyTorch by', refusal(Scaled(), (16, 'tracing'), path))
    assert re.search('it cannot be run on 3x3x96x176 .*Guard failed', refusal(Sized(), 'torch-export', path))


@pytest.mark.parametrize('which', [(16, 'tracing'), 'torch-export'], ids=str)
def test_one_size_alone(which, tmp_path):
    exported = export(Sized(), form_of(which), tmp_path / 'file', size=(32, 48), fixed=True)
    assert exported.sizes == '1x3x32x48 alone'
    assert [found.images for found in exported.differences] == [Images(1, 32, 48)] * len(form_of(which).runtimes)


class Remembers(nn.Module):
    """Takes a number from the image, which tracing takes for good."""

    def forward(self, image):
        return image * image.mean().item()


def test_one_size_alone_is_checked_with_another_image(tmp_path):
    assert 'on 1x3x32x48 its output differs' in refusal(Remembers(), (16, 'tracing'), tmp_path / 'file', fixed=True)


def test_nothing_is_open_where_one_size_was_asked_for(tmp_path):
    export(upsampler(), Onnx(16), tmp_path / 'file', size=(32, 48), fixed=True)
    import onnx

    dims = onnx.load(str(tmp_path / 'file')).graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [1, 3, 32, 48]


class Parity(nn.Module):
    """Treats odd sizes in another way."""

    def forward(self, image):
        return image * 2 if image.shape[2] % 2 else image


class Even(nn.Module):
    def forward(self, image):
        if image.shape[2] % 2:
            raise ValueError('even sizes only')
        return image * 2


@pytest.mark.parametrize(
    ('model', 'words'), [(Parity(), 'is computed wrong'), (Even(), 'is not accepted by the model')], ids=['Parity', 'Even']
)
def test_which_sizes(model, words, tmp_path):
    exported = export(model, Onnx(16), tmp_path / 'file')
    assert exported.sizes == f'multiples of 32; 1x3x133x203 {words}'


def test_images_of_any_size_need_not_be_multiples(tmp_path):
    exported = export(Parity(), Onnx(16), tmp_path / 'file', size=(30, 50))
    assert exported.sizes == 'such as 30x50, 94x178, 62x146; 1x3x35x61 is computed wrong'


class Own(nn.Module):
    def forward(self, image):
        return F.grid_sample(image, image[:, :2].permute(0, 2, 3, 1), align_corners=False)


@pytest.mark.parametrize('which', [(16, 'tracing'), (18, 'capturing'), 'torch-export'], ids=str)
def test_a_model_that_samples_by_itself(which, tmp_path):
    words = refusal(Own(), which, tmp_path / 'file', gathers=True)
    assert re.match(r'1 (GridSample|grid_sampler) are left in Own: .* --without-grid-sample cannot change', words)


class Careful(Own):
    def forward(self, image):
        with torch.autocast('cpu', enabled=False):
            return 2 * super().forward(image)


class Undecided(Own):
    def forward(self, image):
        return torch.cond(image.sum() > 0, super().forward, torch.clone, (image,))


@pytest.mark.parametrize('which', [(18, 'capturing'), 'torch-export'], ids=str)
@pytest.mark.parametrize('model', [Careful, Undecided])
def test_sampling_within_parts_of_a_graph_is_found(model, which, tmp_path):
    assert re.match(r'1 (GridSample|grid_sampler) are left in', refusal(model(), which, tmp_path / 'file', gathers=True))


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ValueError, match=r'is a folder: choose another --out'):
        export(Own().eval(), Program(), tmp_path)


class Unknown(nn.Module):
    def forward(self, image):
        return torch.linalg.matrix_exp(image @ image.mT)


@pytest.mark.parametrize(
    ('which', 'remedy'),
    [((16, 'tracing'), '--opset 18 --exporter capturing'), ((18, 'capturing'), '--exporter tracing')],
    ids=str,
)
def test_an_exporter_that_fails(which, remedy, tmp_path):
    words = refusal(Unknown(), which, tmp_path / 'file')
    assert re.search(f'exporter failed on this model: .*Try {remedy}, --fixed', words)
    assert len(words) < 700


def test_a_runtime_that_refuses_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(Onnx, 'write', lambda self, subject, axes, path: path.write_bytes(b'none'))
    monkeypatch.setattr(Onnx, 'operators', lambda self, path: [])
    assert 'it cannot be opened (' in refusal(Scaled(), (16, 'tracing'), tmp_path / 'file')


def test_weights_that_a_file_cannot_hold(tmp_path, monkeypatch):
    monkeypatch.setattr(forms, 'ONNX_LIMIT', 100)
    assert 'an ONNX file can hold 2 GiB: choose --to torch-export' in refusal(upsampler(), (16, 'tracing'), tmp_path / 'file')


@pytest.mark.parametrize('value', [float('nan'), 1.1e-3])
def test_what_is_no_number_is_no_match(value):
    found = Difference('a runtime', 'logits', Images(1, 2, 3), (1, 1, 2, 3), value, value)
    with pytest.raises(MismatchError, match='on 1x3x2x3 its logits differs'):
        require_within([found])
    require_within([Difference('a runtime', 'logits', Images(1, 2, 3), (1, 1, 2, 3), 9e-4, 9e-4)])


def test_a_part_that_is_not_there():
    with pytest.raises(ValueError, match='--part nekc: the model has no such module; its modules are stages, neck and their submodules'):
        make_subject(Pyramid(nn.Identity()), 'nekc', Images(1, 32, 48))


def test_a_part_that_no_image_reaches():
    model = upsampler()
    model.unused = nn.Identity()
    model.forward = lambda image: model[1](model[0](image))
    with pytest.raises(ValueError, match='--part unused is not used to compute its output'):
        make_subject(model, 'unused', Images(1, 32, 48))


def test_a_part_is_called_as_the_model_calls_it():
    """With arguments by name, numbers among them, and by its ``forward``."""

    class Head(nn.Module):
        def forward(self, maps, ratio, *, last):
            return {'first': maps['a'][0] * ratio, 'second': [last, None, last > 0]}

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = Head()

        def forward(self, image):
            return self.head.forward({'a': [image]}, ratio=3, last=image + 1)

    model = Model().eval()
    subject = make_subject(model, 'head', Images(1, 2, 3))
    assert list(subject.inputs) == ['maps_a_0', 'last']
    assert subject.outputs == ('output_first', 'output_second_0')
    first, second = subject(subject.inputs)
    image = subject.inputs['maps_a_0']
    assert torch.equal(first, 3 * image)
    assert torch.equal(second, image + 1)
    assert 'forward' not in vars(model.head)


def test_images_that_the_model_cannot_take():
    with pytest.raises(
        ValueError, match=r'Even cannot be run in PyTorch on 1x3x31x48 to compute its output \(ValueError: even sizes only\)'
    ):
        make_subject(Even(), None, Images(1, 31, 48))


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (dict(opset=21), 'opset must be 12 to 20, got 21'),
        (dict(opset=16, exporter='capturing'), 'the capturing exporter writes opset 18 and newer, got --opset 16'),
        (dict(target='onnxruntime', opset=18), 'DeformConv needs opset 19 or newer, got --opset 18'),
        (dict(target='onnxruntime', exporter='capturing'), 'the capturing exporter writes no DeformConv: leave out --exporter'),
        (dict(to='torch-export', opset=18), '--for, --opset and --exporter need --to onnx'),
        (dict(to='torch-export', target='openvino'), '--for, --opset and --exporter need --to onnx'),
        (dict(opset=18, exporter='dynamo'), "exporter must be tracing or capturing, got 'dynamo'"),
    ],
    ids=str,
)
def test_bad_options(arguments, words):
    with pytest.raises(ValueError, match=words):
        make_form(**{'to': 'onnx', **arguments})


def test_which_exporter_is_the_default():
    assert [Onnx(opset).exporter for opset in (16, 18, 20)] == ['tracing', 'capturing', 'capturing']


def test_what_is_not_installed_is_named(monkeypatch):
    find_spec = forms.find_spec
    monkeypatch.setattr(forms, 'find_spec', lambda name: None if name == 'onnxscript' else find_spec(name))
    with pytest.raises(ImportError, match='needs onnxscript, which is not installed. Run: pip install onnx onnxruntime onnxscript'):
        Onnx(16)
    Program()


def test_each_runtime_has_its_form():
    forms = {name: make_form('onnx', name) for name in ('any', 'onnxruntime', 'openvino', 'tensorrt')}
    assert {name: (form.opset, form.sampling) for name, form in forms.items()} == {
        'any': (18, GRID_SAMPLE),
        'onnxruntime': (19, DEFORM_CONV),
        'openvino': (18, GRID_SAMPLE),
        'tensorrt': (18, GRID_SAMPLE),
    }
    assert [str(form.runtimes[0]).split()[0] for form in forms.values()] == ['onnxruntime'] * 4
    assert make_form('onnx', 'onnxruntime', gathers=True).sampling == GATHERS
    assert [make_form('onnx', opset=opset).sampling for opset in (15, 16)] == [GATHERS, GRID_SAMPLE]


def test_the_remedy_for_the_newest_grid_sample_is_an_older_opset():
    assert Onnx(20).alternative == '--opset 18'
    assert Onnx(20, sampling=GATHERS).alternative == '--exporter tracing'


@pytest.mark.parametrize('opset', range(12, 21))
def test_the_oldest_format_that_the_opset_allows(opset, tmp_path):
    """From the table of versions of ONNX."""
    import onnx

    export(upsampler(), Onnx(opset), tmp_path / 'file', part='1', size=(32, 48))
    assert onnx.load(str(tmp_path / 'file')).ir_version == (7 if opset < 15 else 8 if opset < 19 else 9)


@pytest.mark.parametrize('name', ['FADE', 'LDA-AQU', 'ReSFU', 'SAPA-D'])
def test_opset_12_has_fewer_operators(name, tmp_path):
    upsampler = build_upsampler(name, 32)
    model = Guided(upsampler, 32).eval() if upsampler.guided else nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), upsampler).eval()
    exported = export(model, Onnx(12), tmp_path / 'file', part='upsampler' if upsampler.guided else '1', size=(32, 48))
    assert max(found.relative for found in exported.differences) < 3e-5


@pytest.mark.parametrize('fixed', [False, True])
@pytest.mark.parametrize('name', ['DySample', 'DySample-S+', 'LDA-AQU'])
def test_deform_conv(name, fixed, tmp_path):
    """Points far outside the map, too: those of DySample stay at its border, and those of LDA-AQU are zero."""
    model = nn.Sequential(nn.Conv2d(3, 64, 3, 2, 1), build_upsampler(name, 64)).eval()
    for key, parameter in model.named_parameters():
        if '.offset.' in f'.{key}' or 'conv_offset' in key:
            nn.init.normal_(parameter, std=5 if key.endswith('bias') else 0.1)
    form = make_form('onnx', 'onnxruntime')
    exported = export(model, form, tmp_path / 'file', part='1', size=(30, 44), fixed=fixed)
    bound = 1e-4 if name == 'LDA-AQU' else 2e-5  # its scores magnify the rounding of the layer that predicts the points
    assert max(found.relative for found in exported.differences) < bound
    assert GRID_SAMPLE not in exported.operators
    assert DEFORM_CONV in exported.operators
    run = form.runtimes[0].open(tmp_path / 'file')
    for size in [(15, 22)] if fixed else [(9, 11), (1, 7), (15, 43), (64, 3)]:
        x = 10 * torch.randn(1, 64, *size) + 3
        expected = model[1](x)
        assert (run({'x': x})[0] - expected).abs().max() < bound * expected.abs().max()


@pytest.mark.parametrize('gathers', [False, True, None], ids=['GridSample', 'gathers', 'DeformConv'])
def test_nan_stays_nan_and_spreads_no_further_than_in_torch(gathers, tmp_path):
    model = upsampler('DySample')
    form = make_form('onnx', 'onnxruntime') if gathers is None else form_of((16, 'tracing'), gathers)
    export(model, form, tmp_path / 'file', part='1', size=(32, 48))
    x = torch.randn(1, 64, 9, 11)
    x[:, :, 4, 6] = float('nan')
    for runtime in form.runtimes:
        (got,) = runtime.open(tmp_path / 'file')({'x': x})
        assert got[:, :, 8:10, 12:14].isnan().all()
        assert torch.equal(got.isnan(), model[1](x).isnan())


@pytest.mark.parametrize('name', ['CARAFE', 'A2U'])
def test_nan_is_read_by_its_neighbours_alone(name, tmp_path):
    """In kernel-based upsampling, whose neighbourhoods are products of matrices in a file."""
    model = Guided(build_upsampler(name, 32), 32).eval()
    if name == 'CARAFE':
        model = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), model.upsampler)
    form = form_of((16, 'tracing'))
    export(model, form, tmp_path / 'file', part='1' if name == 'CARAFE' else 'upsampler', size=(32, 48))
    module = model[1] if name == 'CARAFE' else model.upsampler
    x, guide = torch.randn(1, 32, 9, 11), torch.randn(1, 32, 18, 22)
    x[:, :, 4, 6] = float('inf')
    inputs = {'x': x} if name == 'CARAFE' else {'x': x, 'guide': guide}
    (got,) = form.runtimes[0].open(tmp_path / 'file')(inputs)
    expected = module(*inputs.values())
    assert torch.equal(got.isfinite(), expected.isfinite())
    assert 0 < got.isfinite().float().mean() < 1


@pytest.mark.parametrize('channels', [1, 4, 6])
def test_the_image_has_the_channels_of_the_model(channels, tmp_path):
    model = nn.Sequential(nn.Conv2d(channels, 64, 3, 2, 1), build_upsampler('DySample', 64)).eval()
    exported = export(model, Onnx(16), tmp_path / 'file', size=(32, 48), channels=channels)
    assert str(exported.subject.images) == f'2x{channels}x32x48'
    assert next(iter(exported.subject.inputs.values())).shape == (2, channels, 32, 48)


@pytest.mark.parametrize('which', [(16, 'tracing'), (18, 'capturing'), 'torch-export'], ids=str)
def test_half_is_compared_with_float32(which, tmp_path):
    """Coordinates in float16 would be off by a tenth of a pixel on this map, and the outputs by more than the tolerance."""
    model = upsampler('DySample')
    form = form_of(which)
    exported = export(model, form, tmp_path / 'file', part='1', size=(32, 512), half=True)
    assert 1e-5 < max(found.relative for found in exported.differences) < 1e-2
    assert model[1].offset.weight.dtype == torch.float32
    x = torch.randn(1, 64, 20, 300)
    (got,) = form.runtimes[0].open(tmp_path / 'file')({'x': x.half()})
    assert got.dtype == torch.float16
    assert (got.float() - model[1](x)).abs().max() < 2e-2 * x.abs().max()


@pytest.mark.parametrize('tool', ['onnxslim', 'onnxsim'])
@pytest.mark.parametrize('target', ['any', 'onnxruntime'])
def test_simplified_files_compute_the_same(tool, target, tmp_path):
    simplifier = pytest.importorskip(tool)
    import onnx

    model, form = upsampler('DySample'), make_form('onnx', target)
    export(model, form, tmp_path / 'file', part='1', size=(32, 48))
    loaded = onnx.load(str(tmp_path / 'file'))
    onnx.save(simplifier.slim(loaded) if tool == 'onnxslim' else simplifier.simplify(loaded)[0], str(tmp_path / 'slim'))
    x = torch.randn(2, 64, 9, 14)
    (got,) = form.runtimes[0].open(tmp_path / 'slim')({'x': x})
    torch.testing.assert_close(got, model[1](x), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_rtdetr_whole(tmp_path):
    """Its best boxes and scores are those that mmdet predicts."""
    pytest.importorskip('mmdet')
    from mmdet.structures import DetDataSample

    from mmdysample.engine.config import load_config
    from mmdysample.pictures.loaded_model import load_model

    config = load_config('configs/shapes/rtdetr_r18_dysample_shapes.py', {'model.backbone.init_cfg': None})
    model = load_model(config).model.cpu()
    for branch in model.bbox_head.cls_branches:
        nn.init.normal_(branch.weight, std=0.5)  # a new layer scores all queries alike
    form = Onnx(16)
    exported = export(model, form, tmp_path / 'file', size=(96, 128), fixed=True)
    assert exported.subject.outputs == ('boxes', 'scores')
    image = torch.randn(1, 3, 96, 128)
    boxes, scores = form.runtimes[0].open(tmp_path / 'file')({'image': image})
    shape = dict(batch_input_shape=(96, 128), img_shape=(96, 128), ori_shape=(96, 128), scale_factor=(1.0, 1.0))
    with torch.no_grad():
        predicted = model.predict(image, [DetDataSample(metainfo=shape)])[0].pred_instances
    best, where = scores[0].flatten().topk(len(predicted))
    torch.testing.assert_close(best, predicted.scores, rtol=1e-4, atol=1e-5)
    limits = torch.tensor([128.0, 96.0, 128.0, 96.0])
    ours = boxes[0][where // scores.shape[2]].clamp(min=0).minimum(limits)
    torch.testing.assert_close(ours, predicted.bboxes, rtol=1e-3, atol=1e-2)


@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux tells its signal stack here')
def test_openvino_leaves_the_signal_stack_as_it_was(tmp_path):
    """Each of its models has one, and the next signal would end the process on that of a closed model."""
    pytest.importorskip('openvino')
    export(upsampler(), Onnx(16), tmp_path / 'file', part='1', size=(32, 48))
    before = current_signal_stack()
    first, second = (OpenVINO().open(tmp_path / 'file') for _ in range(2))
    del first
    del second
    after = current_signal_stack()
    assert (after.address, after.flags, after.size) == (before.address, before.flags, before.size)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
