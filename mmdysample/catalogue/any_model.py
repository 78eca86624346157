"""Models that know nothing of mmdysample, with learned upsampling: what is replaced, what it adds, and whether it trains and exports.

Each runs in a process of its own, because their libraries do not bear each other: transformers cannot be imported beside a torchvision that
does not match torch, and Ultralytics asks for torchvision's metadata. So Ultralytics lies in a folder of its own, ``ultralytics`` in the
environment that ``make foreign`` makes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmdysample.engine.errors import exit_on_error
from mmdysample.replacement import UpsampleReport, replace_upsample
from mmdysample.terminal.progress import progress
from mmdysample.terminal.tables import Row, render

HEIGHT, WIDTH = 160, 224
UPSAMPLER = 'DySample'


class Example(NamedTuple):
    """A model, what it is called with, and its loss on a batch."""

    model: nn.Module
    inputs: Any
    loss: Callable[[nn.Module], Tensor]


def rt_detr() -> Example:
    """RT-DETR of transformers, with a ResNet-18."""
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    stages = ['stage2', 'stage3', 'stage4']
    backbone = RTDetrResNetConfig(hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type='basic', out_features=stages)
    config = RTDetrConfig(
        backbone_config=backbone, encoder_in_channels=[128, 256, 512], decoder_layers=3, freeze_backbone_batch_norms=False
    )
    image = torch.randn(1, 3, HEIGHT, WIDTH)
    labels = [{'class_labels': torch.tensor([1]), 'boxes': torch.tensor([[0.5, 0.5, 0.2, 0.3]])}]
    model = RTDetrForObjectDetection(config)
    nn.init.normal_(model.model.enc_score_head.weight)
    return _normalise(Example(model, {'pixel_values': image}, lambda model: model(pixel_values=image, labels=labels).loss))


def _names(names: list[str]) -> str:
    return ', '.join(names) if len(names) < 4 else f'{len(names)}, {names[0]} and the like'


def _normalise(example: Example) -> Example:
    """Take the statistics of a batch: untrained, this image all but vanishes, and leaves equals among which each runtime chooses others."""
    norms = [module for module in example.model.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    example.model.train()
    with torch.no_grad():
        example.loss(example.model)
    for norm, momentum in zip(norms, before):
        norm.momentum = momentum
    return example


def ultralytics(name: str) -> Example:
    """A model of Ultralytics by the name of its configuration."""
    from ultralytics.nn import tasks
    from ultralytics.utils import DEFAULT_CFG

    model = (tasks.RTDETRDetectionModel if name.startswith('rtdetr') else tasks.DetectionModel)(name, verbose=False)
    model.args, model.nc = DEFAULT_CFG, 80  # as its trainer sets them
    batch = {
        'img': torch.rand(2, 3, HEIGHT, WIDTH),
        'batch_idx': torch.tensor([0.0, 1.0]),
        'cls': torch.tensor([[1.0], [2.0]]),
        'bboxes': torch.tensor([[0.5, 0.5, 0.2, 0.3], [0.4, 0.5, 0.2, 0.3]]),
    }
    return Example(model, torch.randn(1, 3, HEIGHT, WIDTH), lambda model: model(batch)[0].sum())


def openmmlab(framework: str, kind: str, in_channels: Sequence[int] = (), **arguments: Any) -> Example:
    """A neck or head of mmdet or mmseg, called with maps of these channels, or a backbone, called with an image."""
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import MODELS, init_default_scope

    import_module(f'{framework}.models')
    init_default_scope(framework)
    channels = {'in_channels': in_channels} if in_channels else {}
    model = revert_sync_batchnorm(MODELS.build({'type': kind, **channels, **arguments}))
    maps = [torch.randn(2, c, HEIGHT // 2 ** (i + 2), WIDTH // 2 ** (i + 2)) for i, c in enumerate(sorted(in_channels))]
    inputs = (maps,) if maps else (torch.randn(2, 3, HEIGHT, WIDTH),)

    def loss(model: nn.Module) -> Tensor:
        return torch.stack([out.square().mean() for out in _tensors(model(*inputs))]).sum()

    return Example(model, inputs, loss)


class Foreign(NamedTuple):
    """A model, and the distributions that it comes from."""

    packages: tuple[str, ...]
    build: Callable[[], Example]


MMDET, MMSEG = ('mmdet', 'onedl-mmdetection'), ('mmsegmentation', 'onedl-mmsegmentation')
SEMANTIC_FPN: dict[str, Any] = {'in_index': [0, 1, 2, 3], 'feature_strides': [4, 8, 16, 32], 'channels': 128, 'num_classes': 19}
FOREIGN = {
    'RTDetrForObjectDetection': Foreign(('transformers',), rt_detr),
    'yolo11n.yaml': Foreign(('ultralytics',), lambda: ultralytics('yolo11n.yaml')),
    'rtdetr-resnet50.yaml': Foreign(('ultralytics',), lambda: ultralytics('rtdetr-resnet50.yaml')),
    'PAFPN': Foreign(MMDET, lambda: openmmlab('mmdet', 'PAFPN', [64, 128, 256], out_channels=256, num_outs=4)),
    'YOLOXPAFPN': Foreign(MMDET, lambda: openmmlab('mmdet', 'YOLOXPAFPN', [96, 192, 384], out_channels=96, num_csp_blocks=1)),
    'CSPNeXtPAFPN': Foreign(MMDET, lambda: openmmlab('mmdet', 'CSPNeXtPAFPN', [96, 192, 384], out_channels=96, num_csp_blocks=1)),
    # which names the channels of the coarsest map first, and takes the finest first
    'YOLOV3Neck': Foreign(MMDET, lambda: openmmlab('mmdet', 'YOLOV3Neck', [512, 256, 128], num_scales=3, out_channels=[256, 128, 64])),
    'FPNHead': Foreign(MMSEG, lambda: openmmlab('mmseg', 'FPNHead', [256] * 4, **SEMANTIC_FPN)),
    'UNet': Foreign(MMSEG, lambda: openmmlab('mmseg', 'UNet')),
}


def distribution(packages: tuple[str, ...]) -> str:
    """Name and version of the first distribution that is installed; nothing if none is."""
    for package in packages:
        try:
            return f'{package} {version(package)}'
        except PackageNotFoundError:
            continue
    return ''


def examine(name: str) -> Row:
    """Replace the upsampling of a model, train it a step and export it.

    Raises:
        ValueError: The model has no place for an upsampler.
    """
    torch.manual_seed(0)
    example = FOREIGN[name].build()
    report = replace_upsample(example.model, UPSAMPLER, example.inputs)
    exported = _export(example)
    return {
        'name': f'`{name}`',
        'library': distribution(FOREIGN[name].packages),
        'sites replaced': _names([f'`{site.name}`' for site in report.replaced]),
        'channels': ', '.join(str(site.channels) for site in report.replaced),
        'sites left': f'{len(report.left)}',
        'parameters added': f'{report.parameters:,}',
        'a training step': _train(example, report),
        'ONNX': exported,
    }


def _train(example: Example, report: UpsampleReport) -> str:
    """Whether a step of SGD moves every upsampler."""
    model = example.model
    model.train()  # some return nothing
    weights = {key: p for key, p in model.named_parameters() if 'upsample_modules' in key}
    before = {key: p.detach().clone() for key, p in weights.items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = example.loss(model)
    loss.backward()
    optimizer.step()
    still = [key for key, p in weights.items() if torch.equal(p, before[key])]
    return 'yes' if loss.isfinite() and weights and not still else f'no: {", ".join(still) or "the loss is not finite"}'


def _export(example: Example) -> str:
    """Whether its ONNX export, opset 16, computes the same in onnxruntime."""
    try:
        import onnxruntime

        for key, p in example.model.named_parameters():
            if 'upsample_modules' in key:
                nn.init.normal_(p, std=0.01)  # so that it shows where they sample
        args = tuple(example.inputs.values()) if isinstance(example.inputs, dict) else example.inputs
        args = args if isinstance(args, tuple) else (args,)
        example.model.eval()
        model = Plain(example.model)
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            path = str(Path(folder) / 'model.onnx')
            expected = model(*args)
            torch.onnx.export(model, args, path, opset_version=16, dynamo=False)
            session = onnxruntime.InferenceSession(path)
            feed = {node.name: tensor.numpy() for node, tensor in zip(session.get_inputs(), _tensors(args))}
            got = session.run(None, feed)
        worst = max(
            float((torch.from_numpy(ours) - wanted).abs().max() / wanted.abs().max()) for ours, wanted in zip(got, expected, strict=True)
        )
        return f'yes ({worst:.0e})' if worst < 1e-3 else f'no: differs by {worst:.0e}'
    except Exception as error:  # whatever it is, it cannot be done
        return f'no: {type(error).__name__}: {" ".join(str(error).split())[:60]}'


class Plain(nn.Module):
    """A model whose outputs are a flat tuple of the floating-point tensors in what it returns."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any) -> tuple[Tensor, ...]:
        """Run the model."""
        return tuple(tensor for tensor in _tensors(self.model(*args)) if tensor.is_floating_point())


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for child in children for tensor in _tensors(child)]


def examine_apart(name: str) -> Row:
    """:func:`examine` in a process of its own.

    Raises:
        ValueError: It failed; with the last line of what it said.
    """
    beside = Path(sys.prefix) / 'ultralytics'
    root = str(Path(__file__).parents[2])
    paths = [root, *([str(beside)] if 'ultralytics' in FOREIGN[name].packages else []), os.environ.get('PYTHONPATH', '')]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths)), 'PYTHONWARNINGS': 'ignore'}
    command = [sys.executable, '-m', 'mmdysample.catalogue.any_model', '--alone', name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f'{name}: {(done.stderr or done.stdout).strip().splitlines()[-1]}')
    return json.loads(done.stdout)


def available() -> list[str]:
    """The models whose library is installed here."""
    beside = Path(sys.prefix) / 'ultralytics'
    if beside.is_dir():
        sys.path.append(str(beside))
    try:
        return [name for name, foreign in FOREIGN.items() if distribution(foreign.packages)]
    finally:
        if beside.is_dir():
            sys.path.remove(str(beside))


def main() -> None:
    """Print the table of all models whose library is installed here."""
    parser = argparse.ArgumentParser(description='Put DySample into models that know nothing of it; train each a step and export it.')
    parser.add_argument('--format', default='text', choices=['text', 'markdown', 'csv'])
    parser.add_argument('--alone', choices=list(FOREIGN), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # their libraries greet
            row = examine(args.alone)
        print(json.dumps(row))
        return
    with exit_on_error():
        names = available()
        if not names:
            raise ValueError('none of the libraries is installed: make foreign, or pip install transformers')
        print(
            render(
                [examine_apart(name) for name in progress(names, 'replacing, training, exporting')],
                args.format,
                left=('name', 'library', 'sites replaced', 'channels'),
            )
        )


if __name__ == '__main__':
    main()
