"""The environment of a measurement: the machine, and the settings of torch that affect times."""

import platform
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch

DEVICES = ('cpu', 'cuda')
DTYPES = {'float32': torch.float32, 'float16': torch.float16, 'bfloat16': torch.bfloat16}
# Words that vendors add to the name of a model.
FRILLS = re.compile(r'\((?:R|TM|C)\)|\bCPU\b|\bProcessor\b|\bwith\b.*|@', re.IGNORECASE)


@dataclass(frozen=True)
class Environment:
    """Everything that affects a measured time besides the upsampler.

    Args:
        machine: Model of the GPU, or of the CPU if ``device`` is ``'cpu'``.
        device: ``'cpu'`` or ``'cuda'``.
        torch: Version of torch.
        dtype: A key of ``DTYPES``.
        tf32: Whether float32 may use TensorFloat-32, which keeps 10 of the 23 bits of the mantissa, on tensor cores.
        compiled: Whether the upsamplers are compiled by ``torch.compile``.
        threads: Number of CPU threads of torch.
        cuda: Versions of CUDA and cuDNN; empty on a CPU.
        date: Date of the measurement, ISO 8601.
    """

    machine: str
    device: str
    torch: str
    dtype: str
    tf32: bool
    compiled: bool
    threads: int
    cuda: str
    date: str

    @classmethod
    def here(cls, device: str = 'cpu', dtype: str = 'float32', tf32: bool = False, compiled: bool = False) -> 'Environment':
        """Return the environment of this machine with these settings.

        Raises:
            ValueError: This machine does not support the settings.
        """
        if device == 'cuda' and not torch.cuda.is_available():
            raise ValueError('--device cuda needs a GPU, but torch sees none; leave it out to measure the CPU')
        if tf32 and (device, dtype) != ('cuda', 'float32'):
            raise ValueError(f'--tf32 needs --device cuda --dtype float32, got --device {device} --dtype {dtype}')
        on_gpu = device == 'cuda'
        return cls(
            machine=torch.cuda.get_device_name() if on_gpu else cpu_model(),
            device=device,
            torch=torch.__version__,
            dtype=dtype,
            tf32=tf32,
            compiled=compiled,
            threads=torch.get_num_threads(),
            cuda=f'CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}' if on_gpu else '',
            date=date.today().isoformat(),
        )

    @property
    def file_name(self) -> str:
        """A name for files without a suffix, such as ``nvidia-geforce-rtx-3090_torch2.13.0_cuda_float32``."""
        return '_'.join((self.machine_name, self.device, *self._precision()))

    @property
    def machine_name(self) -> str:
        """The part of ``file_name`` for results of several dtypes, such as ``nvidia-geforce-rtx-3090_torch2.13.0``."""
        machine = re.sub(r'[^a-z0-9.]+', '-', FRILLS.sub(' ', self.machine).lower()).strip('-.') or 'unknown'
        return f'{machine}_torch{self.torch.split("+")[0]}'

    def sentence(self) -> str:
        """Return a line that describes the environment, for the text beside a table."""
        kind = f'{self.cuda}' if self.device == 'cuda' else f'{self.threads} thread{"s" if self.threads != 1 else ""}'
        return f'{self.machine}, {kind}, torch {self.torch}, {", ".join(self._precision())}, {self.date}'

    def _precision(self) -> list[str]:
        return [self.dtype, *(['tf32'] if self.tf32 else []), *(['compile'] if self.compiled else [])]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Set TF32 for convolutions and matrix products; torch's defaults differ between the two."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision('high' if self.tf32 else 'highest')
        try:
            with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=self.tf32):
                yield
        finally:
            torch.set_float32_matmul_precision(before)


def cpu_model() -> str:
    """Return the model of the CPU, or its architecture if the model is unknown; nothing that identifies the single machine."""
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.is_file():
        found = re.search(r'^model name\s*:\s*(.+)$', cpuinfo.read_text(encoding='utf-8'), flags=re.MULTILINE)
        if found:
            return found[1].strip()
    if platform.system() == 'Darwin':
        done = subprocess.run(['sysctl', '-n', 'machdep.cpu.brand_string'], capture_output=True, text=True, check=False)
        if done.stdout.strip():
            return done.stdout.strip()
    return platform.machine()
