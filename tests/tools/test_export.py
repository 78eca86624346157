"""The command line: what it writes and says, and what it refuses in one line."""

import importlib.util
import os
import re
import runpy
import sys

import pytest
import torch
from torch import nn

pytest.importorskip('mmseg')
onnxruntime = pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')
from mmdysample.engine.config import load_config  # noqa: E402
from mmdysample.engine.model import build_model  # noqa: E402
from mmdysample.export.runtimes import OpenVINO  # noqa: E402
from mmdysample.pictures.loaded_model import load_model  # noqa: E402

SHAPES = 'configs/shapes/segformer_b1_dysample_shapes.py'
FASTER = 'configs/shapes/faster_rcnn_dysample_shapes.py'


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    for name in ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', 'LOCAL_RANK', 'RANK'):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def tool(run_tool, tmp_path):
    """Run the tool; what it prints, or its one line of error."""

    def run(*arguments, config=SHAPES, refused=False):
        told = run_tool('export', config, *arguments, '--work-dir', tmp_path / 'work', refused=refused)
        if refused:
            return told
        assert told.err == ''
        return told.out

    return run


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    model = build_model(load_config(SHAPES))
    for name, parameter in model.named_parameters():
        if '.offset.' in name:
            nn.init.normal_(parameter, std=0.2)
    path = tmp_path_factory.mktemp('checkpoint') / 'iter_9.pth'
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, path)
    return path


def test_a_checkpoint(tool, checkpoint, tmp_path):
    told = tool(checkpoint, '--to', 'onnx', '--opset', '16', '--size', '64x96')
    out = tmp_path / 'work/segformer_b1_dysample_shapes.onnx'
    lines = told.strip().splitlines()
    assert lines[0] == 'exported: EncoderDecoder of segformer_b1_dysample_shapes · DySample · iter_9.pth'
    assert lines[1] == 'checked against PyTorch, on 2x3x64x96, 3x3x128x224, 1x3x128x224:'
    assert [word in lines[3] for word in ('form', 'runtime', 'output', 'shape', 'largest difference', 'relative')] == [True] * 6
    rows = [line for line in lines if 'ONNX, opset 16, tracing exporter' in line]
    assert f'onnxruntime {onnxruntime.__version__}' in rows[0]
    assert len(rows) == 1 + (importlib.util.find_spec('openvino') is not None)
    assert all('logits' in row for row in rows)
    rest = lines[5 + len(rows) + 1 :]
    assert rest[:-2] == [
        'input: image (B, 3, H, W)',
        'output: the logits at the size of the image',
        'preprocessing: the input is an image in RGB, normalised: (pixel - mean) / std, '
        'mean [123.675, 116.28, 103.53], std [58.395, 57.12, 57.375]',
        'sizes: any; 1x3x69x107 was also tried',
        'GridSample: 6',
        'onnxruntime before 1.11 does not know opset 16',
        *([OpenVINO.hint] if len(rows) == 2 else []),
    ]
    time = rf'time for 1x3x64x96: [\d.]+ ms in onnxruntime {onnxruntime.__version__}, [\d.]+ times that with bilinear interpolation'
    assert re.match(time, rest[-2])
    assert rest[-1] == f'done: {out}'
    model = load_model(load_config(SHAPES), str(checkpoint)).model.cpu()
    image = torch.randn(1, 3, 70, 50)
    (got,) = onnxruntime.InferenceSession(str(out)).run(None, {'image': image.numpy()})
    expected = model.encode_decode(image, [{'img_shape': image.shape[2:]}])
    torch.testing.assert_close(torch.from_numpy(got), expected, rtol=1e-4, atol=1e-4)


def test_a_part_of_an_untrained_detector(tool, tmp_path):
    out = tmp_path / 'neck.pt2'
    arguments = ('--to', 'torch-export', '--part', 'neck.upsample_modules.0', '--without-grid-sample', '--out', out)
    told = tool(*arguments, config=FASTER)
    assert 'exported: neck.upsample_modules.0 (DySample) of faster_rcnn_dysample_shapes' in told
    assert 'input: x (B, 64, H, W)\nsizes: any; 1x3x133x203 was also tried\ngrid_sampler: none\nuntrained: no checkpoint was given' in told
    before = os.stat(out)
    assert f'error: {out} exists: choose another --out, or overwrite it with --force' in tool(*arguments, config=FASTER, refused=True)
    assert os.stat(out) == before
    tool(*arguments, '--force', '--upsampler', 'DySample+', config=FASTER)
    assert os.stat(out).st_size > before.st_size


def test_the_form_of_a_runtime(tool, checkpoint):
    told = tool(checkpoint, '--to', 'onnx', '--for', 'onnxruntime', '--size', '64x96')
    assert 'ONNX, opset 19, tracing exporter' in told
    assert 'GridSample: none\nDeformConv: 6\n' in told
    assert (
        'onnxruntime before 1.25 has no DeformConv, and OpenVINO does not read it: leave out --for onnxruntime for other runtimes' in told
    )


def test_a_runtime_that_is_not_installed_is_named(tool, monkeypatch):
    monkeypatch.setattr(OpenVINO, 'is_installed', lambda: False)
    words = 'warning: OpenVINO is not installed, so the file was not checked there. Run: pip install openvino'
    arguments = ('--to', 'onnx', '--opset', '16', '--size', '64x96')
    assert words in tool(*arguments, '--for', 'openvino')
    assert words not in tool(*arguments, '--force')


def test_known_faults_of_runtimes_are_said(tool):
    arguments = ('--to', 'onnx', '--opset', '20', '--exporter', 'tracing', '--size', '64x96')
    fault = 'warning: TensorRT 10.13 reads the GridSample of opset 20 wrongly, and OpenVINO before 2026.1 refuses it'
    assert fault in tool(*arguments)
    assert fault not in tool(*arguments, '--without-grid-sample', '--force')


@pytest.mark.parametrize(('channels', 'words'), [(1, 'an image of 1 channel, '), (4, 'an image of 4 channels, ')])
def test_images_of_other_channels(channels, words, tool):
    numbers = str([0.5] * channels).replace(' ', '')
    options = [
        f'model.backbone.in_channels={channels}',
        f'model.data_preprocessor.mean={numbers}',
        f'model.data_preprocessor.std={numbers}',
    ]
    told = tool('--to', 'onnx', '--opset', '16', '--size', '64x96', '--cfg-options', *options, 'model.data_preprocessor.bgr_to_rgb=False')
    assert f'input: image (B, {channels}, H, W)' in told
    assert words in told


def test_half(tool, checkpoint):
    told = tool(checkpoint, '--to', 'onnx', '--opset', '16', '--half', '--size', '64x96')
    assert 'checked against PyTorch in float32, on 2x3x64x96' in told


def test_a_detector_gives_maps(tool, tmp_path):
    told = tool('--to', 'onnx', '--opset', '16', '--out', tmp_path / 'maps.onnx', '--fixed', '--size', '64x128', config=FASTER)
    assert 'inference: ' not in told
    assert 'output: the maps of neck and rpn_head, without boxes, scores and NMS' in told
    assert 'input: image (1, 3, 64, 128)' in told
    names = [node.name for node in onnxruntime.InferenceSession(str(tmp_path / 'maps.onnx')).get_outputs()]
    assert names == [f'{kind}_{i}' for kind in ('neck', 'rpn_head_0', 'rpn_head_1') for i in range(5)]


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--to', 'onnx', '--part', 'nekc'], 'the model has no such module; its modules are backbone, decode_head'),
        (['--to', 'onnx', '--out', 'model.pt2'], '--out must end in .onnx, got model.pt2'),
        (['--to', 'onnx', '--opset', '16', '--exporter', 'capturing'], 'writes opset 18 and newer, got --opset 16'),
        (['--to', 'torch-export', '--opset', '18'], '--for, --opset and --exporter need --to onnx'),
        (['no.pth', '--to', 'onnx'], 'there is no checkpoint no.pth'),
        (['--to', 'onnx', '--upsampler', 'DySampel'], "unknown upsampler 'DySampel'"),
    ],
)
def test_wrong_use(arguments, words, tool):
    assert words in tool(*arguments, refused=True)


def test_an_exporter_that_fails_says_so_alone(tool):
    """Whose own words are thousands of lines."""
    config = '--cfg-options', 'model.decode_head.dropout_ratio=0', 'model.decode_head.upsample_cfg.type=Unexportable'
    from mmengine.registry import MODELS

    @MODELS.register_module(name='Unexportable', force=True)
    class Unexportable(nn.Module):
        guided = False

        def __init__(self, in_channels, scale_factor=2):
            super().__init__()
            self.scale_factor = scale_factor

        def forward(self, x):
            return torch.linalg.matrix_exp(x @ x.mT).sum() + x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    try:
        assert 'tracing exporter failed on this model: ' in tool('--to', 'onnx', '--opset', '16', *config, refused=True)
    finally:
        MODELS.module_dict.pop('Unexportable')


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--opset', '11'], 'argument --opset: invalid choice'),
        (['--for', 'ncnn'], 'argument --for: invalid choice'),
        (['--size', '64'], 'takes HxW, two positive integers, got 64'),
    ],
)
def test_wrong_words(arguments, words, monkeypatch, capfd):
    monkeypatch.setattr(sys, 'argv', ['export.py', SHAPES, '--to', 'onnx', *arguments])
    with pytest.raises(SystemExit):
        runpy.run_path('tools/export.py', run_name='__main__')
    assert words in capfd.readouterr().err
