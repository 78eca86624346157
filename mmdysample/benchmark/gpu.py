"""Run everything that waits for a GPU, one step after another. Without a GPU, each step goes as far as it can on a CPU.

Each step runs commands in processes of their own, because an illegal memory access breaks the GPU for the rest of a process.
"""

import argparse
import csv
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from mmdysample.catalogue.capabilities import DTYPES
from mmdysample.engine.errors import one_line, show_traceback
from mmdysample.functional.paths import WHY_NO_TRITON
from mmdysample.terminal.progress import long_progress
from mmdysample.terminal.tables import render

from .environment import Environment
from .files import new_results, to_csv
from .upsamplers import REFERENCE

LOGS = Path('work_dirs/gpu')
SWEEP = ('tests/functional/kernels', 'tests/functional/test_self_check.py')
DETECTOR = 'configs/shapes/faster_rcnn_dysample_shapes.py'
# On a CPU, benchmarks only show that they run.
TINY = ('--size', '1x64x4x6', '--rounds', '1', '--seconds', '0')
ON_GPU = ('--device', 'cuda')


class SkippedError(Exception):
    """Without a GPU, a step cannot show what it is for."""


@dataclass(frozen=True)
class Run:
    """The surroundings of a step.

    Args:
        step: Name of the step.
        gpu: Whether there is a GPU.
        root: The folder that holds ``tools``, ``configs`` and ``tests``.
        out: The folder for results.
    """

    step: str
    gpu: bool
    root: Path
    out: Path

    def python(self, *arguments: str) -> str:
        """Run Python with some arguments, and return what it printed, which a log keeps.

        Raises:
            RuntimeError: It failed. The text is the last error that it printed, or else its last line.
        """
        log = self.root / LOGS / f'{self.step.replace(" ", "_")}.log'
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open('w', encoding='utf-8') as file, long_progress(self.step, 1, now=lambda: last_line(log)):
            command = [sys.executable, '-u', '-W', 'ignore', *arguments]
            done = subprocess.run(command, cwd=self.root, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, check=False)
        printed = log.read_text(encoding='utf-8', errors='replace')
        if done.returncode:
            errors = re.findall(r'^(?:error|[\w.]+Error): .+', printed, re.MULTILINE)
            reason = f'killed by signal {-done.returncode}' if done.returncode < 0 else errors[-1] if errors else last_line(log)
            raise RuntimeError(f'{reason} (log: {os.path.relpath(log)})')
        return printed

    def measure(self, benchmark: str, *options: str) -> tuple[str, list[dict[str, str]]]:
        """Run a benchmark, and return what it printed and the rows of its CSV files, which are kept if there is a GPU."""
        with TemporaryDirectory() as temporary:
            out = (self.out if self.gpu else Path(temporary)).resolve()
            before = set(out.glob('*.csv'))
            printed = self.python('tools/benchmark.py', benchmark, *options, '--out', str(out))
            new = sorted(set(out.glob('*.csv')) - before)
            return printed, [row for path in new for row in csv.DictReader(path.open(encoding='utf-8', newline=''))]


def last_line(log: Path) -> str:
    """Return the last line of a log with any text, or an empty string."""
    lines = log.read_text(encoding='utf-8', errors='replace').strip().splitlines()
    return lines[-1].strip() if lines else ''


def raise_errors(rows: list[dict[str, str]]) -> None:
    """Raise a RuntimeError if rows of a table have errors."""
    if errors := dict.fromkeys(f'{row["name"]}: {row["error"]}' for row in rows if row['error']):
        raise RuntimeError('; '.join(errors))


def kernel_sweep(run: Run) -> str:
    """Run the tests of the kernels: compiled on a GPU, otherwise in Triton's interpreter."""
    if not run.gpu and find_spec('triton') is None:
        raise SkippedError('Triton is not installed')
    if run.gpu and WHY_NO_TRITON:
        raise RuntimeError(WHY_NO_TRITON)
    printed = run.python('-m', 'pytest', '-q', *SWEEP)
    return f'{printed.splitlines()[-1]}, {"compiled for the GPU" if run.gpu else "in the interpreter of Triton"}'


def capabilities(run: Run) -> str:
    """Try every upsampler in every dtype on the device, forward and backward."""
    printed = run.python('tools/list_upsamplers.py', 'capabilities', '--format', 'csv')
    header = printed.find('name,guided')
    if header < 0:
        raise RuntimeError('the command printed no table')
    table = printed[header:].splitlines()
    column, everything = 'CUDA' if run.gpu else 'CPU', ' '.join(DTYPES)
    cells = {row['name']: row[column] for row in csv.DictReader(table)}
    if lacking := [f'{name} ({cell})' for name, cell in cells.items() if cell != everything]:
        raise RuntimeError(f'not in all of {everything} on {column}: {", ".join(lacking)}')
    return f'{len(cells)} upsamplers on {column}, each in {everything}'


def amp_training(run: Run) -> str:
    """Train the detector on Shapes for an epoch in mixed precision. The CPU trains in float32."""
    with TemporaryDirectory() as folder:
        amp = ['--amp'] if run.gpu else []
        epoch = ['--cfg-options', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1']
        printed = run.python('tools/train.py', DETECTOR, '--work-dir', folder, *amp, *epoch)
    losses = [float(loss) for loss in re.findall(r' loss: (\S+)', printed)]
    text = f'loss {" ".join(f"{loss:.2f}" for loss in losses)}'
    if not losses or not all(map(isfinite, losses)) or losses[-1] >= losses[0]:
        raise RuntimeError(f'the loss does not decrease: {text}')
    if not run.gpu:
        raise SkippedError(f'trained without AMP, {text}')
    return text


def peak_memory(run: Run) -> str:
    """Measure the time and the peak memory of every upsampler."""
    _, rows = run.measure('upsamplers', *(ON_GPU if run.gpu else TINY))
    raise_errors(rows)
    if not run.gpu:
        raise SkippedError(f'{len(rows)} upsamplers run, on a tiny map')
    memory = {row['name']: int(row['forward_backward_memory_bytes']) for row in rows}
    return f'DySample trains in {memory["DySample"] / memory[REFERENCE]:.2f} times the memory of {REFERENCE}'


def textbook_table(run: Run) -> str:
    """Measure the formulations of DySample, and judge the targets."""
    printed, rows = run.measure('textbook', *(ON_GPU if run.gpu else (*TINY, '--dtype', 'float32')))
    raise_errors([row for row in rows if run.gpu or row['name'] != 'fused'])
    if not run.gpu:
        raise SkippedError('all formulations but the kernels run, on a tiny map')
    verdicts = re.findall(r'\| +(met|missed|not measured) +\|', printed)
    return f'targets: {", ".join(f"{verdicts.count(word)} {word}" for word in sorted(set(verdicts)))}'


def block_sizes(run: Run) -> str:
    """Time other block sizes of the kernels than those in use."""
    if not run.gpu:
        raise SkippedError('a time in the interpreter of Triton means nothing')
    printed, rows = run.measure('blocks')
    raise_errors([row for row in rows if row['in_use'] == 'True'])
    return printed.splitlines()[-1]


STEPS: dict[str, Callable[[Run], str]] = {
    'kernel sweep': kernel_sweep,
    'capabilities': capabilities,
    'AMP training': amp_training,
    'peak memory': peak_memory,
    'textbook table': textbook_table,
    'block sizes': block_sizes,
}


@dataclass(frozen=True)
class Outcome:
    """The outcome of a step.

    Args:
        step: Name of the step.
        result: ``'passed'``, ``'failed'`` or ``'skipped'``.
        detail: What was found, or the reason.
        seconds: How long it took.
    """

    step: str
    result: str
    detail: str
    seconds: int


def take(run: Run) -> Outcome:
    """Run a step. Its errors are its outcome, so that the other steps still run."""
    start = time.perf_counter()
    try:
        result, detail = 'passed', STEPS[run.step](run)
    except SkippedError as reason:
        result, detail = 'skipped', f'{reason} (no CUDA device)'
    except Exception as error:  # any error means that the step failed
        if show_traceback():
            raise
        result, detail = 'failed', one_line(error)
    return Outcome(run.step, result, detail, round(time.perf_counter() - start))


def run_gpu(args: argparse.Namespace, root: Path) -> int:
    """Run all steps, print a line for each and a table, and save the table if there is a GPU.

    Returns:
        The exit code: 1 if a step failed, otherwise 0.
    """
    gpu, out = torch.cuda.is_available(), Path(args.out)
    if gpu and os.environ.get('TRITON_INTERPRET') == '1':
        raise ValueError('TRITON_INTERPRET=1 keeps the kernels off the GPU: unset it')
    outcomes = []
    for step in STEPS:
        outcomes.append(take(Run(step, gpu, root, out)))
        print('{step}: {result}: {detail}'.format(**asdict(outcomes[-1])), flush=True)
    table = [{name: str(cell) for name, cell in asdict(outcome).items()} for outcome in outcomes]
    print(render(table, 'text', ('step', 'result', 'detail')))
    if gpu:
        environment = replace(Environment.here('cuda'), dtype='')  # the steps have several
        with new_results(out, f'gpu_{environment.machine_name}') as (file, path):
            file.write(to_csv([asdict(outcome) for outcome in outcomes], environment).encode())
        print(f'written: {path}, and beside it the tables of the steps; commit them')
    else:
        print('no CUDA device: all figures of a GPU are open; run this again where torch sees one')
    return int('failed' in {outcome.result for outcome in outcomes})
