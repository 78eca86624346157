"""Find out what an upsampler can do by trying it: scales, devices and dtypes, compilation, ONNX export."""

import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar, Union

import torch
from torch import Tensor, nn

from mmdysample.upsamplers import build_upsampler
from mmdysample.upsamplers.builder import UpsampleConfig

CHANNELS = 64
SIZE = (5, 4)
DTYPES = {'fp64': torch.float64, 'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
YES, NO, UNTRIED = 'yes', 'no', '-'

Result = TypeVar('Result')


def make(cfg: UpsampleConfig, channels: int = CHANNELS, scale_factor: int = 2) -> nn.Module:
    """Build an upsampler in evaluation mode, with random values in all parameters so that each affects the output."""
    torch.manual_seed(0)
    module = build_upsampler(cfg, channels, scale_factor).eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.02)
    return module


def make_inputs(module: nn.Module, size: tuple[int, int] = SIZE, channels: int = CHANNELS, scale_factor: int = 2) -> tuple[Tensor, ...]:
    """Return a feature map ``(1, C, H, W)`` and, for a guided upsampler, a guide ``(1, C, s*H, s*W)``."""
    torch.manual_seed(1)
    x = torch.randn(1, channels, *size)
    guide = torch.randn(1, channels, scale_factor * size[0], scale_factor * size[1])
    return (x, guide) if getattr(module, 'guided', False) else (x,)


def attempt(action: Callable[[], Result]) -> Union[Result, Literal[False]]:
    """Return the result of an action, or False if it raises; its warnings and output are hidden."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter('ignore')
        try:
            return action()
        except Exception:  # any error means that the upsampler cannot do it
            return False


def runs(name: str, device: str, dtype: torch.dtype) -> bool:
    """Return True if an upsampler on this device and dtype equals itself in float64 on CPU, and has finite gradients."""

    def action() -> bool:
        module = make(name)
        inputs = make_inputs(module)
        expected = make(name).double()(*(tensor.double() for tensor in inputs))
        leaves = [tensor.to(device, dtype).requires_grad_() for tensor in inputs]
        # By default, cuDNN rounds float32 to TensorFloat-32, whose error exceeds the tolerance.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            got = module.to(device, dtype)(*leaves)
            got.float().sum().backward()
        return torch.allclose(got.cpu().double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]) and bool(
            leaves[0].grad is not None and leaves[0].grad.isfinite().all()
        )

    return attempt(action)


def scales(name: str, scale_factor: int) -> bool:
    """Return True if an upsampler supports a ratio."""

    def action() -> bool:
        channels = 32 * scale_factor**2  # divisible by the channel divisor of every upsampler
        module = make(name, channels, scale_factor)
        out = module(*make_inputs(module, SIZE, channels, scale_factor))
        return out.shape == (1, channels, scale_factor * SIZE[0], scale_factor * SIZE[1])

    return attempt(action)


def compiles(name: str) -> bool:
    """Return True if ``torch.compile`` captures an upsampler in one graph with dynamic sizes."""

    def action() -> bool:
        module = make(name)
        compiled = torch.compile(module, fullgraph=True, backend='aot_eager', dynamic=True)
        pairs = [make_inputs(module, size) for size in (SIZE, (7, 6))]
        return all(torch.allclose(compiled(*inputs), module(*inputs), atol=1e-4) for inputs in pairs)

    done = attempt(action)
    torch.compiler.reset()
    return done


def exports(name: str) -> bool:
    """Return True if the ONNX export (opset 16) equals the upsampler in onnxruntime, also at another size than the exported one."""

    def action() -> bool:
        import onnxruntime

        module = make(name)
        inputs = make_inputs(module)
        names = ['x', 'guide'][: len(inputs)]
        axes = {key: {2: f'{key}_height', 3: f'{key}_width'} for key in names}
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / 'upsampler.onnx')
            torch.onnx.export(module, inputs, path, opset_version=16, input_names=names, dynamic_axes=axes, dynamo=False)
            session = onnxruntime.InferenceSession(path)
        inputs = make_inputs(module, (7, 6))
        (got,) = session.run(None, {key: tensor.numpy() for key, tensor in zip(names, inputs)})
        return torch.allclose(torch.from_numpy(got), module(*inputs), atol=1e-3)

    return attempt(action)


def has_onnxruntime() -> bool:
    """Return True if onnx and onnxruntime are installed, so that exports can be tried."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError:
        return False
    return True


def capabilities(name: str) -> dict[str, str]:
    """Try everything that the table of capabilities has a column for.

    Returns:
        A cell for each column; ``-`` if this machine cannot try it: CUDA without a GPU, ONNX without onnxruntime.
    """
    devices = {'CPU': 'cpu', 'CUDA': 'cuda' if torch.cuda.is_available() else None}
    cells = {'scales': ' '.join(f'x{s}' for s in (2, 3, 4) if scales(name, s))}
    for label, device in devices.items():
        cells[label] = ' '.join(key for key, dtype in DTYPES.items() if runs(name, device, dtype)) or NO if device else UNTRIED
    cells['compile'] = YES if compiles(name) else NO
    cells['ONNX'] = (YES if exports(name) else NO) if has_onnxruntime() else UNTRIED
    return cells
