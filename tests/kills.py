"""Kill trainings with SIGKILL, again and again, and compare how they end with a training that was not killed.

``python tests/kills.py --help`` shows the options. A chain is one training that is started and killed several times, and then completed.
"""

import argparse
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Optional

import torch

ROOT = Path(__file__).resolve().parents[1]
CONFIG = 'configs/shapes/segformer_b1_dysample_shapes.py'
ROW = 'DySample'
OPTIONS = [
    'shapes.train=16',
    'shapes.val=8',
    'train_cfg.max_iters=40',
    'train_cfg.val_interval=8',
    'default_hooks.checkpoint.interval=4',
    'default_hooks.logger.interval=1',
    'randomness.seed=0',
    'randomness.deterministic=True',
]
PATIENCE = 300  # seconds that a training may take


def command(tool: str, out: Path, keep: Optional[int]) -> list[str]:
    """Return the command that starts a training, or continues it."""
    options = [*OPTIONS, *([f'default_hooks.checkpoint.max_keep_ckpts={keep}'] if keep else [])]
    if tool == 'train':
        arguments = ['tools/train.py', CONFIG, '--work-dir', str(out), '--resume']
    else:
        arguments = ['tools/reproduce.py', 'segformer', '--data', 'shapes', '--rows', ROW, '--out', str(out)]
    return [sys.executable, '-W', 'ignore', *arguments, '--cfg-options', *options]


def start(tool: str, out: Path, keep: Optional[int]) -> subprocess.Popen:
    """Start a training with its output in a file."""
    with out.with_suffix('.log').open('a') as log:
        pipes = {'stdin': subprocess.DEVNULL, 'stdout': log, 'stderr': log}
        return subprocess.Popen(command(tool, out, keep), cwd=ROOT, start_new_session=True, **pipes)


def kill(process: subprocess.Popen, alone: bool) -> None:
    """Kill a process and, unless ``alone``, all that it has started."""
    doomed = [process.pid] if alone else [process.pid, *descendants(process.pid)]
    for pid in doomed:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def descendants(pid: int) -> Iterator[int]:
    """Yield the processes that a process has started, and theirs."""
    with suppress(OSError):  # it has ended
        for tasks in Path(f'/proc/{pid}/task').glob('*/children'):
            for child in tasks.read_text().split():
                yield int(child)
                yield from descendants(int(child))


def wait_for(process: subprocess.Popen, out: Path, pattern: str, seen: set[Path]) -> bool:
    """Wait until a file that matches appears below a folder; False if the process ends before."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        if set(out.rglob(pattern)) - seen:
            return True
        time.sleep(0.001)
    return False


def chain(tool: str, out: Path, keep: Optional[int], kills: int, at_saves: bool, chance: random.Random) -> int:
    """Run a training that is killed again and again until it is complete.

    Args:
        tool: ``'train'`` or ``'reproduce'``.
        out: Where it writes.
        keep: The number of checkpoints that it keeps; by default, as shipped.
        kills: How often it is killed at most.
        at_saves: Whether to kill it within 50 ms of the moment when it begins to write a checkpoint, or at random moments.
        chance: Where the moments come from.

    Returns:
        How often it was killed.
    """
    killed = 0
    for _ in range(kills):
        process = start(tool, out, keep)
        if at_saves:
            if wait_for(process, out, '*.pth*', seen=set(out.rglob('*.pth*'))):
                time.sleep(chance.uniform(0, 0.05))
        else:
            logs = set(out.rglob('scalars.json'))
            if wait_for(process, out, 'scalars.json', logs) or process.poll() is None:
                time.sleep(chance.uniform(0, 2))
        if process.poll() is not None:
            break
        kill(process, alone=tool == 'reproduce' and chance.random() < 0.25)
        killed += 1
    process = start(tool, out, keep)
    if process.wait(PATIENCE):
        print(out.with_suffix('.log').read_text()[-2000:])
        raise SystemExit(f'{shlex.join(command(tool, out, keep))} ended with {process.returncode}')
    return killed


def result(tool: str, out: Path) -> tuple[dict, object]:
    """Return the weights in the last checkpoint, and the metrics that were measured with it."""
    (last,) = out.rglob('iter_40.pth')
    if tool == 'train':
        lines = [line for log in sorted(out.glob('*/vis_data/scalars.json')) for line in log.read_text().splitlines()]
        metrics = [entry for entry in map(json.loads, lines) if 'mIoU' in entry][-1]
    else:
        (note,) = out.rglob('training.json')
        metrics = json.loads(note.read_text())['metrics']
    measured = {name: value for name, value in metrics.items() if 'time' not in name}
    return torch.load(last, weights_only=False)['state_dict'], measured


def compare(tool: str, keep: Optional[int], kills: int, at_saves: bool, chains: int, seed: int) -> dict[str, object]:
    """Return how many kills a training survived, and whether it ended as without them."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / 'whole'
        chain(tool, whole, keep, 0, at_saves, chance)
        expected, metrics = result(tool, whole)
        survived = same = 0
        for number in range(chains):
            out = Path(folder) / f'chain{number}'
            survived += chain(tool, out, keep, kills, at_saves, chance)
            state, measured = result(tool, out)
            same += measured == metrics and all(torch.equal(state[name], value) for name, value in expected.items())
            shutil.rmtree(out)
    return {
        'tool': tool,
        'max_keep_ckpts': keep or 'as shipped',
        'moments': 'within 50 ms of a save' if at_saves else 'random',
        'kills': survived,
        'trainings': chains,
        'equal to the bit': same,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--tool', choices=['train', 'reproduce'], default='train')
    parser.add_argument('--keep', type=int, help='max_keep_ckpts (default: as shipped)')
    parser.add_argument('--chains', type=int, default=4, help='trainings (default: 4)')
    parser.add_argument('--kills', type=int, default=5, help='kills of each training (default: 5)')
    parser.add_argument('--at-saves', action='store_true', help='kill within 50 ms of a save, and not at random moments')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    print(json.dumps(compare(args.tool, args.keep, args.kills, args.at_saves, args.chains, args.seed)))


if __name__ == '__main__':
    main()
