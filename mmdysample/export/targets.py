"""The form of a file for each runtime, by name."""

from typing import Optional

from mmdysample.functional.capture import DEFORM_CONV, GATHERS, GRID_SAMPLE

from .forms import OLDEST, Form, Onnx, Program
from .runtimes import ONNX_RUNTIMES, OnnxRuntime

#: ``any`` is the form that all runtimes compute alike. It is also the fastest one that OpenVINO and TensorRT have.
TARGETS = ('any', 'onnxruntime', 'openvino', 'tensorrt')


def make_form(to: str, target: str = 'any', opset: Optional[int] = None, exporter: Optional[str] = None, gathers: bool = False) -> Form:
    """Return the export format for the options of ``tools/export.py``.

    Args:
        to: ``'onnx'`` or ``'torch-export'``.
        target: The runtime that the file is for, one of ``TARGETS``.
        opset: The opset of ONNX; None for that of the target.
        exporter: The exporter of ONNX, see :class:`Onnx`.
        gathers: Whether bilinear samples are exported as gathers, without GridSample.

    Raises:
        ValueError: An option is invalid or does not belong to this format.
        ImportError: A package that ONNX needs is not installed.
    """
    if to != 'onnx':
        if opset or exporter or target != 'any':
            raise ValueError('--for, --opset and --exporter need --to onnx')
        return Program(GATHERS if gathers else GRID_SAMPLE)
    if target == 'onnxruntime' and not gathers:
        return Onnx(opset or OLDEST[DEFORM_CONV], exporter, DEFORM_CONV, (OnnxRuntime,))
    runtimes = (OnnxRuntime,) if target in ('onnxruntime', 'tensorrt') else ONNX_RUNTIMES
    return Onnx(opset or 18, exporter, GATHERS if gathers else None, runtimes)
