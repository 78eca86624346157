"""The export formats: how each file is written and run."""

import contextlib
import io
import logging
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Optional

import torch
from torch import Tensor
from torch.export import Dim

from .subject import Subject

OPSETS = (16, 18, 20)
EXPORTERS = ('tracing', 'capturing')
# The largest size of a protobuf file is 2 GiB; 1 MiB is reserved for the graph.
ONNX_LIMIT = 2**31 - 2**20

Axes = dict[str, tuple[int, ...]]  # the dynamic axes of each input
Run = Callable[[dict[str, Tensor]], list[Tensor]]


class Form(ABC):
    """An export format, written by an exporter and run by a runtime."""

    suffix: str
    runtime: str
    alternative: str  # the option of tools/export.py to suggest if the export fails
    grid_sample: str  # the name of the operator for grid sampling in this format

    def check_name(self, path: Path) -> None:
        """Check that a file has the suffix of the format.

        Raises:
            ValueError: It has another suffix.
        """
        if path.suffix != self.suffix:
            raise ValueError(f'--out must end in {self.suffix}, got {path}')

    @abstractmethod
    def write(self, subject: Subject, axes: Axes, path: Path) -> None:
        """Export to a file. Exceptions of the exporter are not caught."""

    @abstractmethod
    def open(self, path: Path) -> Run:
        """Return a function that runs a file. It does not catch exceptions of the runtime."""

    @abstractmethod
    def operators(self, path: Path) -> list[str]:
        """Return the names of the operators in a file, with repetitions."""

    @abstractmethod
    def __str__(self) -> str: ...


class Onnx(Form):
    """ONNX, for onnxruntime and other runtimes.

    Args:
        opset: 16, 18 or 20; GridSample needs 16.
        exporter: ``'tracing'`` runs the model once and records the operators; it supports every opset, and takes a second or two.
            ``'capturing'`` (``dynamo=True``) also tracks symbolic sizes; it needs opset 18 or newer. By default, it is ``'capturing'``
            from opset 18 on and ``'tracing'`` below.

    Raises:
        ValueError: The opset or the exporter is unknown, or the exporter does not support the opset.
        ImportError: onnx, onnxruntime or onnxscript is not installed.
    """

    suffix = '.onnx'
    grid_sample = 'GridSample'

    def __init__(self, opset: int = 18, exporter: Optional[str] = None) -> None:
        if opset not in OPSETS:
            raise ValueError(f'opset must be one of {", ".join(map(str, OPSETS))}, got {opset}')
        self.opset, self.exporter = opset, exporter or ('tracing' if opset < 18 else 'capturing')
        if self.exporter not in EXPORTERS:
            raise ValueError(f'exporter must be {" or ".join(EXPORTERS)}, got {exporter!r}')
        if self.exporter == 'capturing' and opset < 18:
            raise ValueError(
                f'the capturing exporter writes opset 18 and newer, got --opset {opset}: leave out --exporter, or choose tracing'
            )
        missing = [name for name in ('onnx', 'onnxruntime', 'onnxscript') if find_spec(name) is None]
        if missing:
            raise ImportError(f'--to onnx needs {", ".join(missing)}, which is not installed. Run: pip install onnx onnxruntime onnxscript')
        self.runtime = f'onnxruntime {version("onnxruntime")}'
        self.alternative = '--exporter tracing' if self.exporter == 'capturing' else '--opset 18 --exporter capturing'

    def __str__(self) -> str:
        return f'ONNX, opset {self.opset}, {self.exporter} exporter'

    def write(self, subject: Subject, axes: Axes, path: Path) -> None:
        size = sum(tensor.nbytes for tensor in subject.function.state_dict().values())
        if size > ONNX_LIMIT:
            raise ValueError(f'the weights take {size / 2**30:.1f} GiB, and an ONNX file can hold 2 GiB: choose --to torch-export')
        names = {name: {axis: _axis_name(name, axis, tensor, len(axes)) for axis in axes[name]} for name, tensor in subject.inputs.items()}
        how: dict[str, Any] = dict(dynamo=False, dynamic_axes=names)
        if self.exporter == 'capturing':
            # The function takes its tensors as *args, which count as one argument.
            how = dict(dynamo=True, dynamic_shapes=(tuple(names.values()),), external_data=False, verbose=False)
        with quietly():
            torch.onnx.export(
                subject.function,
                tuple(subject.inputs.values()),
                str(path),
                opset_version=self.opset,
                input_names=list(subject.inputs),
                output_names=list(subject.outputs),
                **how,
            )

    def open(self, path: Path) -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
        taken = {node.name for node in session.get_inputs()}

        def run(inputs: dict[str, Tensor]) -> list[Tensor]:
            return [torch.from_numpy(out) for out in session.run(None, {name: t.numpy() for name, t in inputs.items() if name in taken})]

        return run

    def operators(self, path: Path) -> list[str]:
        import onnx

        model = onnx.load(str(path))
        graphs = [model.graph, *model.functions]
        found = []
        while graphs:
            for node in graphs.pop().node:
                found.append(node.op_type)
                for attribute in node.attribute:  # subgraphs: branches and loop bodies
                    graphs += [*attribute.graphs, *([attribute.g] if attribute.HasField('g') else [])]
        return found


class Program(Form):
    """A program of ``torch.export``. Run it with ``torch.export.load(FILE).module()``, or compile it with AOTInductor or ExecuTorch."""

    suffix = '.pt2'
    alternative = '--to onnx'
    grid_sample = 'grid_sampler'

    def __init__(self) -> None:
        self.runtime = f'torch {torch.__version__}'

    def __str__(self) -> str:
        return 'torch.export'

    def write(self, subject: Subject, axes: Axes, path: Path) -> None:
        shapes = tuple(dict.fromkeys(axes[name], Dim.AUTO) for name in subject.inputs)
        with quietly():
            program = torch.export.export(subject.function, tuple(subject.inputs.values()), dynamic_shapes=(shapes,), strict=False)
            torch.export.save(program, str(path))

    def open(self, path: Path) -> Run:
        with quietly():
            module = torch.export.load(str(path)).module()
        return lambda inputs: list(module(*inputs.values()))

    def operators(self, path: Path) -> list[str]:
        with quietly():
            program = torch.export.load(str(path))
        # Branches and autocast regions are submodules with graphs of their own.
        graphs = [module.graph for module in program.graph_module.modules() if isinstance(module, torch.fx.GraphModule)]
        nodes = [node for graph in graphs for node in graph.nodes]
        return [str(node.target).split('.')[1] for node in nodes if node.op == 'call_function' and '.' in str(node.target)]


def make_form(to: str, opset: Optional[int] = None, exporter: Optional[str] = None) -> Form:
    """Return the export format for the options of ``tools/export.py``.

    Args:
        to: ``'onnx'`` or ``'torch-export'``.
        opset: The opset of ONNX; None for 18.
        exporter: The exporter of ONNX, see :class:`Onnx`.

    Raises:
        ValueError: An option is invalid or does not belong to this format.
        ImportError: A package that ONNX needs is not installed.
    """
    if to == 'onnx':
        return Onnx(opset or 18, exporter)
    if opset or exporter:
        raise ValueError('--opset and --exporter need --to onnx')
    return Program()


def _axis_name(name: str, axis: int, tensor: Tensor, count: int) -> str:
    """Return the name of a dynamic axis. All maps share the name of the batch; their heights and widths have different names."""
    if tensor.dim() != 4:
        return f'{name}_axis_{axis}'
    word = ('batch', 'channels', 'height', 'width')[axis]
    return word if count == 1 or axis == 0 else f'{name}_{word}'


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Silence the exporters' output except errors. C++ code prints, for example, a graph of thousands of lines."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _without_descriptor(1), _without_descriptor(2):
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _without_descriptor(number: int) -> Iterator[None]:
    kept = os.dup(number)
    with open(os.devnull, 'wb') as nowhere:
        os.dup2(nowhere.fileno(), number)
    try:
        yield
    finally:
        os.dup2(kept, number)
        os.close(kept)
