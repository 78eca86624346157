"""The export formats: how each file is written, and in which runtimes it is checked."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Optional

import torch
from torch import Tensor
from torch.export import Dim

from mmdysample.functional.capture import DEFORM_CONV, GATHERS, GRID_SAMPLE, with_deform_conv, without_grid_sample

from .quiet import quietly
from .runtimes import ONNX_RUNTIMES, Runtime, Torch
from .subject import Subject

OPSETS = range(12, 21)
EXPORTERS = ('tracing', 'capturing')
NEW_GRID_SAMPLE = 20  # the opset whose GridSample not all runtimes read
CAPTURED = 18  # the oldest opset of the capturing exporter
OLDEST = {GRID_SAMPLE: 16, GATHERS: 12, DEFORM_CONV: 19}  # the oldest opset that has the operators
# The oldest onnxruntime that knows an opset, from the table of versions in its documentation.
ONNXRUNTIME = {12: '1.3', 13: '1.6', 14: '1.8', 15: '1.9', 16: '1.11', 17: '1.12', 18: '1.14', 19: '1.15', 20: '1.17'}
# The largest size of a protobuf file is 2 GiB; 1 MiB is reserved for the graph.
ONNX_LIMIT = 2**31 - 2**20

Axes = dict[str, tuple[int, ...]]  # the dynamic axes of each input


class Form(ABC):
    """An export format, written by an exporter and run by runtimes."""

    suffix: str
    alternative: str  # the option of tools/export.py to suggest if the export fails
    grid_sample: str  # the name of the operator for grid sampling in this format
    sampling: str  # the operator by which bilinear samples are recorded: a key of OLDEST
    runtimes: tuple[Runtime, ...]  # those in which a file is checked; the first one decides which sizes it accepts

    def check_name(self, path: Path) -> None:
        """Check that a file has the suffix of the format.

        Raises:
            ValueError: It has another suffix.
        """
        if path.suffix != self.suffix:
            raise ValueError(f'--out must end in {self.suffix}, got {path}')

    def recording(self, fixed: bool) -> AbstractContextManager:
        """Return a context in which bilinear samples are recorded by the operator of the format; ``fixed`` if all sizes are."""
        if self.sampling == GRID_SAMPLE:
            return nullcontext()
        return without_grid_sample() if self.sampling == GATHERS else with_deform_conv(fixed)

    @abstractmethod
    def write(self, subject: Subject, axes: Axes, path: Path) -> None:
        """Export to a file. Exceptions of the exporter are not caught."""

    @abstractmethod
    def operators(self, path: Path) -> list[str]:
        """Return the names of the operators in a file, with repetitions."""

    def shut_out(self, operators: list[str]) -> list[str]:
        """Return sentences on the known versions of runtimes that cannot run a file with these operators, or run it wrongly."""
        return []

    @abstractmethod
    def __str__(self) -> str: ...


class Onnx(Form):
    """ONNX, for onnxruntime, OpenVINO, TensorRT and other runtimes.

    Args:
        opset: 12 to 20.
        exporter: ``'tracing'`` runs the model once and records the operators; it supports every opset, and takes a second or two.
            ``'capturing'`` (``dynamo=True``) also tracks symbolic sizes; it needs opset 18 or newer. By default, it is ``'capturing'``
            from opset 18 on and ``'tracing'`` below, and for DeformConv.
        sampling: ``'GridSample'`` (opset 16), ``'gathers'``, or ``'DeformConv'`` (opset 19). By default, ``'GridSample'`` where the opset
            has it, otherwise ``'gathers'``.
        runtimes: The classes of the runtimes in which a file is checked where they are installed; onnxruntime must be.

    Raises:
        ValueError: The opset, the exporter or the sampling is unknown, or one does not support another.
        ImportError: onnx, onnxruntime or onnxscript is not installed.
    """

    suffix = '.onnx'
    grid_sample = 'GridSample'

    def __init__(
        self,
        opset: int = 18,
        exporter: Optional[str] = None,
        sampling: Optional[str] = None,
        runtimes: tuple[type[Runtime], ...] = ONNX_RUNTIMES,
    ) -> None:
        if opset not in OPSETS:
            raise ValueError(f'opset must be {OPSETS[0]} to {OPSETS[-1]}, got {opset}')
        self.opset, self.sampling = opset, sampling or (GRID_SAMPLE if opset >= OLDEST[GRID_SAMPLE] else GATHERS)
        if opset < OLDEST[self.sampling]:
            raise ValueError(f'{self.sampling} needs opset {OLDEST[self.sampling]} or newer, got --opset {opset}')
        by_tracing = opset < CAPTURED or self.sampling == DEFORM_CONV
        self.exporter = exporter or ('tracing' if by_tracing else 'capturing')
        if self.exporter not in EXPORTERS:
            raise ValueError(f'exporter must be {" or ".join(EXPORTERS)}, got {exporter!r}')
        if self.exporter == 'capturing' and by_tracing:
            what = f'opset {CAPTURED} and newer, got --opset {opset}' if opset < CAPTURED else f'no {DEFORM_CONV}'
            raise ValueError(f'the capturing exporter writes {what}: leave out --exporter, or choose tracing')
        missing = [name for name in ('onnx', 'onnxruntime', 'onnxscript') if find_spec(name) is None]
        if missing:
            raise ImportError(f'--to onnx needs {", ".join(missing)}, which is not installed. Run: pip install onnx onnxruntime onnxscript')
        self.runtimes = tuple(runtime() for runtime in runtimes if runtime.is_installed())
        self.alternative = '--exporter tracing' if self.exporter == 'capturing' else '--opset 18 --exporter capturing'
        if opset >= NEW_GRID_SAMPLE and self.sampling == GRID_SAMPLE:
            self.alternative = '--opset 18'

    def __str__(self) -> str:
        return f'ONNX, opset {self.opset}, {self.exporter} exporter'

    def write(self, subject: Subject, axes: Axes, path: Path) -> None:
        import onnx

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
        # Exporters write the newest version of the file format that their opsets do not need, and older runtimes refuse it.
        model = onnx.load(str(path))
        model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import)
        onnx.save(model, str(path))

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

    def shut_out(self, operators: list[str]) -> list[str]:
        if DEFORM_CONV in operators:
            return [
                'onnxruntime before 1.25 has no DeformConv, and OpenVINO does not read it: leave out --for onnxruntime for other runtimes'
            ]
        said = [f'onnxruntime before {ONNXRUNTIME[self.opset]} does not know opset {self.opset}']
        if self.opset >= NEW_GRID_SAMPLE and GRID_SAMPLE in operators:
            said.append(
                'warning: TensorRT 10.13 reads the GridSample of opset 20 wrongly, and OpenVINO before 2026.1 refuses it: for them, choose '
                '--opset 18 or --without-grid-sample'
            )
        return said


class Program(Form):
    """A program of ``torch.export``. Run it with ``torch.export.load(FILE).module()``, or compile it with AOTInductor or ExecuTorch.

    Args:
        sampling: ``'GridSample'`` or ``'gathers'``.
    """

    suffix = '.pt2'
    alternative = '--to onnx'
    grid_sample = 'grid_sampler'

    def __init__(self, sampling: str = GRID_SAMPLE) -> None:
        self.sampling, self.runtimes = sampling, (Torch(),)
        self._program: Any = None

    def __str__(self) -> str:
        return 'torch.export'

    def write(self, subject: Subject, axes: Axes, path: Path) -> None:
        shapes = tuple(dict.fromkeys(axes[name], Dim.AUTO) for name in subject.inputs)
        with quietly():
            self._program = torch.export.export(subject.function, tuple(subject.inputs.values()), dynamic_shapes=(shapes,), strict=False)
            torch.export.save(self._program, str(path))

    def operators(self, path: Path) -> list[str]:
        # Branches and autocast regions are submodules with graphs of their own.
        graphs = [module.graph for module in self._program.graph_module.modules() if isinstance(module, torch.fx.GraphModule)]
        nodes = [node for graph in graphs for node in graph.nodes]
        return [str(node.target).split('.')[1] for node in nodes if node.op == 'call_function' and '.' in str(node.target)]


def _axis_name(name: str, axis: int, tensor: Tensor, count: int) -> str:
    """Return the name of a dynamic axis. All maps share the name of the batch; their heights and widths have different names."""
    if tensor.dim() != 4:
        return f'{name}_axis_{axis}'
    word = ('batch', 'channels', 'height', 'width')[axis]
    return word if count == 1 or axis == 0 else f'{name}_{word}'
