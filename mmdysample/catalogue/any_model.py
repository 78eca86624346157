"""Replace the upsampling of models of other libraries, train each for a step and export it; the command of ``tools/any_model.py``.

Each model runs in a separate process, because the libraries cannot be imported together.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmdysample.engine.errors import exit_on_error
from mmdysample.replacement import UpsampleReport, replace_upsample
from mmdysample.terminal.progress import progress
from mmdysample.terminal.tables import Row, render

from .foreign_models import FOREIGN, Example, available, distribution, flat_tensors

UPSAMPLER = 'DySample'


def examine(name: str) -> Row:
    """Replace the upsampling of a model, train it for a step and export it.

    Args:
        name: A key of ``FOREIGN``.

    Returns:
        A row of the table.

    Raises:
        ValueError: The model has no call that an upsampler can replace.
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


def _names(names: list[str]) -> str:
    return ', '.join(names) if len(names) < 4 else f'{len(names)}, {names[0]} and the like'


def _train(example: Example, report: UpsampleReport) -> str:
    """Return ``'yes'`` if a step of SGD changes the weights of every upsampler, otherwise ``'no'`` and the reason."""
    model = example.model
    model.train()  # in evaluation mode, some models return no loss
    weights = {key: p for key, p in model.named_parameters() if 'upsample_modules' in key}
    before = {key: p.detach().clone() for key, p in weights.items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = example.loss(model)
    loss.backward()
    optimizer.step()
    still = [key for key, p in weights.items() if torch.equal(p, before[key])]
    return 'yes' if loss.isfinite() and weights and not still else f'no: {", ".join(still) or "the loss is not finite"}'


def _export(example: Example) -> str:
    """Return ``'yes'`` if the ONNX export (opset 16) has the same outputs in onnxruntime, otherwise ``'no'`` and the reason."""
    try:
        import onnxruntime

        for key, p in example.model.named_parameters():
            if 'upsample_modules' in key:
                nn.init.normal_(p, std=0.01)  # large enough that a wrong sampling point changes the output
        args = tuple(example.inputs.values()) if isinstance(example.inputs, dict) else example.inputs
        args = args if isinstance(args, tuple) else (args,)
        example.model.eval()
        model = Plain(example.model)
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            path = str(Path(folder) / 'model.onnx')
            expected = model(*args)
            torch.onnx.export(model, args, path, opset_version=16, dynamo=False)
            session = onnxruntime.InferenceSession(path)
            feed = {node.name: tensor.numpy() for node, tensor in zip(session.get_inputs(), flat_tensors(args))}
            got = session.run(None, feed)
        worst = max(
            float((torch.from_numpy(ours) - wanted).abs().max() / wanted.abs().max()) for ours, wanted in zip(got, expected, strict=True)
        )
        return f'yes ({worst:.0e})' if worst < 1e-3 else f'no: differs by {worst:.0e}'
    except Exception as error:  # any error means that the model cannot be exported
        return f'no: {type(error).__name__}: {" ".join(str(error).split())[:60]}'


class Plain(nn.Module):
    """A wrapper whose output is a flat tuple of the floating-point tensors that the model returns, as ONNX needs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any) -> tuple[Tensor, ...]:
        """Run the model and return its floating-point tensors."""
        return tuple(tensor for tensor in flat_tensors(self.model(*args)) if tensor.is_floating_point())


def examine_apart(name: str) -> Row:
    """Run :func:`examine` in a separate process.

    Raises:
        ValueError: The process failed. The message is the last line of its output.
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


def main() -> None:
    """Run the command: print the table of all models whose library is installed."""
    parser = argparse.ArgumentParser(description='Put DySample into models of other libraries, train each for a step and export it.')
    parser.add_argument('--format', default='text', choices=['text', 'markdown', 'csv'])
    parser.add_argument('--alone', choices=list(FOREIGN), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # the libraries print greetings, and stdout is for the row
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
