"""Replace the upsampling of models of other libraries, train each for a step and export it; the command of ``tools/any_model.py``.

Each model runs in a separate process, because the libraries cannot be imported together.
"""

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmdysample.engine.errors import exit_on_error
from mmdysample.replacement import UpsampleReport, load_upsamplers, replace_upsample, restore_upsample, save_upsamplers
from mmdysample.terminal.progress import progress
from mmdysample.terminal.tables import Row, render

from .foreign_example import HEIGHT, WIDTH, Example, flat_floats, flat_tensors, normalise
from .foreign_models import BESIDE, FOREIGN, available, distribution

UPSAMPLER = 'DySample'


def examine(name: str) -> Row:
    """Replace the upsampling of a model, train it for a step, call it at other sizes, save, compile and export it.

    Args:
        name: A key of ``FOREIGN``.

    Returns:
        A row of the table.

    Raises:
        ValueError: The model has no call that an upsampler can replace.
    """
    torch.manual_seed(0)
    example = FOREIGN[name].build()
    normalise(example)
    inputs = example.at(HEIGHT, WIDTH)
    shapes = {size: _attempt(lambda size=size: _shapes(example, size)) for size in SIZES}  # type: ignore[misc]
    report = _replace(example, inputs)
    trained = _train(example, report, inputs)
    for _, p in _new_parameters(example.model):
        nn.init.normal_(p, std=0.01)  # large enough that a wrong sampling point changes the output
    example.model.eval()
    compiled = _or_stock(_compile, example.model, inputs)  # first: after an export, torch.compile fails for some models of transformers
    return {
        'name': f'`{name}`',
        'library': distribution(FOREIGN[name].packages),
        'sites replaced': _names([f'`{site.name}`' for site in report.replaced]),
        'channels': _channels([site.channels for site in report.replaced]),
        'sites left': f'{len(report.left)}',
        'parameters added': f'{report.parameters:,}',
        'a training step': trained,
        **{_column(size): _at_size(example, size, wanted) for size, wanted in shapes.items()},
        'saved and loaded': _attempt(lambda: _reload(name, example.model, inputs)),
        'ONNX': _or_stock(_export, example.model, inputs),
        'compiled': compiled,
    }


def _column(size: tuple[int, int]) -> str:
    return f'{size[0]}x{size[1]}'


SIZES = ((161, 97), (HEIGHT * 3 // 2, WIDTH * 3 // 2))
_FIRST = ('name', 'library', 'sites replaced', 'channels', 'sites left', 'parameters added', 'a training step')
COLUMNS = (*_FIRST, *map(_column, SIZES), 'saved and loaded', 'ONNX', 'compiled')


def _replace(example: Example, inputs: tuple[Any, ...]) -> UpsampleReport:
    """Replace all sites but those that the report marks as probable class maps."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about these maps
        report = replace_upsample(example.model, UPSAMPLER, inputs)
    marked = [] if example.has_features else [site.name for site in report.replaced if site.leaves]
    if not marked:
        return report
    report.undo()
    return replace_upsample(example.model, UPSAMPLER, inputs, exclude=marked)


def _new_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(key, p) for key, p in model.named_parameters() if 'upsample_modules' in key]


def _names(names: list[str]) -> str:
    return ', '.join(names) if len(names) < 3 else f'{len(names)}, such as {names[0]}'


def _channels(numbers: list[int]) -> str:
    different = sorted(set(numbers), reverse=True)
    return ', '.join(map(str, different)) if len(different) < 4 else f'{different[0]} to {different[-1]}'


def _attempt(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or ``'no'`` and its error: any error means that the model cannot do it."""
    try:
        return call()
    except Exception as error:
        return f'no: {type(error).__name__}: {" ".join(str(error).split())[:60]}'


def _or_stock(measure: Callable[..., str], model: nn.Module, inputs: tuple[Any, ...]) -> str:
    """Return a measurement of a replaced model, or ``'stock: no'`` if the model without its upsamplers fails, too."""
    found = _attempt(lambda: measure(model, inputs))
    if not found.startswith('no'):
        return found
    stock = copy.deepcopy(model)
    restore_upsample(stock)
    return 'stock: no' if _attempt(lambda: measure(stock, inputs)).startswith('no') else found


def _train(example: Example, report: UpsampleReport, inputs: tuple[Any, ...]) -> str:
    """Return ``'yes'`` if a step of Adam changes the weights of every upsampler, otherwise ``'no'`` and the reason."""
    model = example.model
    model.train()
    before = {key: p.detach().clone() for key, p in _new_parameters(model)}
    optimizer = torch.optim.Adam([p for _, p in _new_parameters(model)])  # SGD would lose small gradients to rounding
    loss = example.loss(inputs)
    loss.backward()
    optimizer.step()
    still = [f'`{key}`' for key, p in _new_parameters(model) if torch.equal(p, before[key])]
    return 'yes' if loss.isfinite() and before and not still else f'no: {_names(still) or "the loss is not finite"}'


def _shapes(example: Example, size: tuple[int, int]) -> list[torch.Size]:
    example.model.eval()
    with torch.no_grad():
        return [out.shape for out in flat_floats(example.model(*example.at(*size)))]


def _at_size(example: Example, size: tuple[int, int], wanted: Any) -> str:
    """Return ``'yes'`` if the outputs have the shapes of the stock model."""
    if isinstance(wanted, str):
        return 'stock: no'
    got = _attempt(lambda: _shapes(example, size))
    return got if isinstance(got, str) else 'yes' if got == wanted else 'no: other shapes than stock'


def _reload(name: str, model: nn.Module, inputs: tuple[Any, ...]) -> str:
    """Return the largest difference of the outputs in a new process, which loads ``save_upsamplers`` and a state dict."""
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        save_upsamplers(model, Path(folder) / 'upsamplers.safetensors')
        torch.save({'model': model.state_dict(), 'inputs': inputs, 'outputs': flat_floats(model(*inputs))}, Path(folder) / 'model.pth')
        return _apart(name, '--load', folder)['saved and loaded']


def reloaded(name: str, folder: Path) -> Row:
    """Load what :func:`examine` saved into a new model, and return its largest difference."""
    saved = torch.load(folder / 'model.pth', weights_only=True)
    model = load_upsamplers(FOREIGN[name].build().model, folder / 'upsamplers.safetensors')
    model.eval()
    model.load_state_dict(saved['model'])
    with torch.no_grad():
        return {'saved and loaded': _difference(flat_floats(model(*saved['inputs'])), saved['outputs'])}


def _difference(got: Sequence[Tensor], expected: Sequence[Tensor]) -> str:
    """Return the largest difference relative to the largest output, or ``'no'`` and the difference where it is large."""
    worst = max(
        float((ours - wanted).abs().max() / wanted.abs().max().clamp(min=1e-12)) for ours, wanted in zip(got, expected, strict=True)
    )
    return f'no: differs by {worst:.0e}' if not worst < 1e-3 else f'{worst:.0e}' if worst else '0'


def _export(model: nn.Module, inputs: tuple[Any, ...]) -> str:
    """Return the difference of the ONNX export (opset 16) in onnxruntime."""
    import onnxruntime

    plain = Plain(model)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = str(Path(folder) / 'model.onnx')
        expected = plain(*inputs)
        torch.onnx.export(plain, inputs, path, opset_version=16, dynamo=False)
        session = onnxruntime.InferenceSession(path)
        feed = {node.name: tensor.numpy() for node, tensor in zip(session.get_inputs(), flat_tensors(inputs))}
        return _difference([torch.from_numpy(out) for out in session.run(None, feed)], expected)


def _compile(model: nn.Module, inputs: tuple[Any, ...]) -> str:
    """Return the difference of ``torch.compile`` with the backend aot_eager."""
    with torch.no_grad():
        expected = flat_floats(model(*inputs))
        torch.compiler.reset()
        return _difference(flat_floats(torch.compile(model, backend='aot_eager')(*inputs)), expected)


class Plain(nn.Module):
    """A wrapper whose output is a flat tuple of the floating-point tensors that the model returns, as ONNX needs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any) -> tuple[Tensor, ...]:
        """Run the model and return its floating-point tensors."""
        return flat_floats(self.model(*args))


def examine_apart(name: str) -> Row:
    """Run :func:`examine` in a separate process.

    Raises:
        ValueError: The process failed. The message is the last line of its output.
    """
    return _apart(name)


def _apart(name: str, *options: str) -> Row:
    beside = Path(sys.prefix) / 'ultralytics'
    root = str(Path(__file__).parents[2])
    paths = [root, *([str(beside)] if FOREIGN[name].packages[0] in BESIDE else []), os.environ.get('PYTHONPATH', '')]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths)), 'PYTHONWARNINGS': 'ignore'}
    command = [sys.executable, '-m', 'mmdysample.catalogue.any_model', '--alone', name, *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f'{name}: {(done.stderr or done.stdout).strip().splitlines()[-1]}')
    return json.loads(done.stdout.splitlines()[-1])  # torch prints the graph that it cannot export


def _row(name: str) -> Row:
    """Return the row of a model; where it cannot be examined at all, a row that says why."""
    try:
        return examine_apart(name)
    except ValueError as error:
        why = {'name': f'`{name}`', 'library': distribution(FOREIGN[name].packages), 'sites replaced': f'no: {error}'}
        return {column: why.get(column, '') for column in COLUMNS}


def main() -> None:
    """Run the command: print the table of all models whose library is installed."""
    parser = argparse.ArgumentParser(description='Put DySample into models of other libraries, train each for a step and export it.')
    parser.add_argument('--format', default='text', choices=['text', 'markdown', 'csv'])
    parser.add_argument('--alone', choices=list(FOREIGN), help=argparse.SUPPRESS)
    parser.add_argument('--load', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # the libraries print greetings, and stdout is for the row
            row = reloaded(args.alone, args.load) if args.load else examine(args.alone)
        print(json.dumps(row))
        return
    with exit_on_error():
        names = available()
        if not names:
            raise ValueError('none of the libraries is installed: make foreign, or pip install transformers')
        print(
            render(
                [_row(name) for name in progress(names, 'replacing, training, exporting')],
                args.format,
                left=('name', 'library', 'sites replaced', 'channels'),
            )
        )


if __name__ == '__main__':
    main()
