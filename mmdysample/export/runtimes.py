"""The runtimes in which an exported file is checked and timed."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from .quiet import quietly
from .signal_stack import kept_signal_stack

Run = Callable[[dict[str, Tensor]], list[Tensor]]


class Runtime(ABC):
    """A runtime that is installed.

    Attributes:
        package: The name of its package.
        title: Its name for messages.
        hint: What a user must do to compute as in the check; empty if that is nothing.
    """

    package: str
    title: str
    hint = ''

    @classmethod
    def is_installed(cls) -> bool:
        """Return True if its package can be imported."""
        return find_spec(cls.package) is not None

    @abstractmethod
    def open(self, path: Path) -> Run:
        """Return a function that runs a file. It does not catch exceptions of the runtime."""

    def __str__(self) -> str:
        return f'{self.title} {version(self.package)}'


class OnnxRuntime(Runtime):
    """onnxruntime, on the CPU."""

    package, title = 'onnxruntime', 'onnxruntime'

    def open(self, path: Path) -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        # A session's threads wait for the next call in a busy loop, which would slow down another session that is timed beside it.
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        session = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
        taken = {node.name for node in session.get_inputs()}

        def run(inputs: dict[str, Tensor]) -> list[Tensor]:
            return [torch.from_numpy(out) for out in session.run(None, {name: t.numpy() for name, t in inputs.items() if name in taken})]

        return run


class OpenVINO(Runtime):
    """OpenVINO, on the CPU, in float32."""

    package, title = 'openvino', 'OpenVINO'
    hint = "OpenVINO: checked with {'INFERENCE_PRECISION_HINT': 'f32'}; without it, CPUs with bfloat16 compute in bfloat16"

    def open(self, path: Path) -> Run:
        import openvino

        with quietly(), kept_signal_stack():
            # Without the hint, a CPU with bfloat16 computes in it.
            compiled = openvino.Core().compile_model(str(path), 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
        taken = {name for node in compiled.inputs for name in node.get_names()}

        def run(inputs: dict[str, Tensor]) -> list[Tensor]:
            with kept_signal_stack():
                out = compiled({name: tensor.numpy() for name, tensor in inputs.items() if name in taken})
            return [torch.from_numpy(out[node].copy()) for node in compiled.outputs]

        return run


class Torch(Runtime):
    """torch, for programs of ``torch.export``."""

    package, title = 'torch', 'torch'

    def open(self, path: Path) -> Run:
        with quietly():
            module = torch.export.load(str(path)).module()
        return lambda inputs: list(module(*inputs.values()))


ONNX_RUNTIMES: tuple[type[Runtime], ...] = (OnnxRuntime, OpenVINO)
