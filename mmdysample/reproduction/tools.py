"""The command lines of ``tools/train.py`` and ``tools/test.py`` for a training."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

from mmdysample.engine.options import BRACKETS

from .results import COUNTS
from .training import Training


def visible_gpus() -> list[str]:
    """Return the entries of CUDA_VISIBLE_DEVICES; an empty list if it is not set."""
    return [name for name in os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',') if name]


class Tools:
    """The commands that train and test.

    Args:
        folder: The folder of the tools.
        threads: Number of threads of each process; OMP_NUM_THREADS overrides it.
        gpus: Indices of the GPUs to use, one process each; without any, the environment decides. If CUDA_VISIBLE_DEVICES is set, as
            schedulers do, they are indices into its list.
    """

    def __init__(self, folder: Path, threads: int, gpus: Sequence[int] = ()) -> None:
        self.folder = folder
        self.threads = os.environ.get('OMP_NUM_THREADS', str(threads))
        self.gpus = tuple(gpus)

    def train(self, training: Training) -> list[str]:
        """Return the command that trains from the beginning, or resumes from the last complete checkpoint."""
        options = ['--cfg-options', *training.options] if training.options else []
        resume = ['--resume'] if training.has_checkpoints else []
        arguments = ['--upsampler', training.upsampler, '--work-dir', str(training.folder)]
        return [*self._command(training.config), *arguments, *resume, *options]

    def test(self, training: Training) -> list[str]:
        """Return the command that tests, to which the caller appends the checkpoint. The saved config has the upsampler and the options."""
        saved = str(training.folder / training.config.name)
        file = str(training.folder / COUNTS)
        value = f"'{file}'" if set(file) & {',', *BRACKETS} else file
        counts = ['--cfg-options', f'test_evaluator.counts={value}'] if training.counted else []
        return [*self._environment(self.gpus[:1]), *self._python('test.py'), *counts, '--work-dir', str(training.folder), saved]

    def _command(self, config: Path) -> list[str]:
        if len(self.gpus) < 2:
            return [*self._environment(self.gpus), *self._python('train.py'), str(config)]
        # Each training needs a port of its own, also beside another call of this command, and takes that of its first GPU. Each SLURM job
        # may count its GPUs from 0, so the job id tells the jobs of a machine apart.
        job = int(os.environ.get('SLURM_JOB_ID', 0)) % 1000
        first = self._names(self.gpus)[0]
        number = int(first) if first.isdecimal() else crc32(first.encode()) % 1000
        own = [f'PYTHON={sys.executable}', f'PORT={29500 + 16 * job + number}']
        return [*self._environment(self.gpus), *own, 'bash', str(self.folder / 'dist_train.sh'), str(config), str(len(self.gpus))]

    def _environment(self, gpus: Sequence[int]) -> list[str]:
        names = self._names(gpus)
        return ['env', f'OMP_NUM_THREADS={self.threads}', *([f'CUDA_VISIBLE_DEVICES={",".join(names)}'] if names else [])]

    @staticmethod
    def _names(gpus: Sequence[int]) -> list[str]:
        given = visible_gpus()
        return [given[gpu] if given else str(gpu) for gpu in gpus]

    def _python(self, tool: str) -> list[str]:
        return [sys.executable, '-W', 'ignore', str(self.folder / tool)]
