"""What stands in for the processes that train and test, and the trainings of a table."""

import json
import os
import re
import signal
from pathlib import Path
from threading import Event

from conftest import ROOT

from mmdysample.paper.reader import read_table
from mmdysample.reproduction.plan import Settings, plan

FOUND = {'coco/bbox_mAP': 0.4512, 'coco/segm_mAP': 0.5, 'mIoU': 68.749, 'time': 1.0}


class Stub:
    """Stands in for the processes: leaves what the tools leave, and fails or dies where it is told to.

    Args:
        fail: Patterns of command lines that fail.
        die: Patterns of trainings during which this process is interrupted, one after the other.
        find: From the work folder to what a test finds.
        number: The signal of the interruption.
    """

    def __init__(self, fail=(), die=(), find=lambda work: FOUND, number=signal.SIGINT):
        self.commands, self.fail, self.die, self.find, self.number, self.ended = [], fail, list(die), find, number, Event()

    def __call__(self, command, log, held):
        os.fstat(held)  # it is open
        self.commands.append(command)
        line = ' '.join(command)
        work = Path(command[command.index('--work-dir') + 1])
        if any(re.search(pattern, line) for pattern in self.fail):
            log.write_text('Traceback\nValueError: no luck\n\n')
            return 2
        if 'test.py' not in line:
            (work / 'iter_1.pth').touch()
            if self.die and re.search(self.die[0], line):
                self.die.pop(0)
                os.kill(os.getpid(), self.number)  # in the main thread, this raises
                assert self.ended.wait(60)
                return 128 + self.number
            for name in ('iter_2.pth', 'best_mIoU_iter_1.pth'):
                (work / name).touch()
            (work / 'last_checkpoint').write_text('/moved/since/iter_2.pth')
        else:
            assert Path(command[-1]).parent == work
            assert Path(command[-1]).is_file()
            (work / 'test/0').mkdir(parents=True)
            (work / 'test/0/0.json').write_text(json.dumps(self.find(work)))
        return 0

    def end(self):
        self.ended.set()

    @property
    def told(self):
        """Tool, the last two parts of the work folder and whether it resumed."""
        return [
            (
                next(Path(part).stem for part in c if part.endswith(('train.py', 'test.py', 'dist_train.sh'))),
                *Path(c[c.index('--work-dir') + 1]).parts[-2:],
                *(['resumed'] if '--resume' in c else []),
            )
            for c in self.commands
        ]

    @property
    def tested(self):
        """The names of the checkpoints that were tested."""
        return {Path(c[-1]).name for c in self.commands if 'test.py' in ' '.join(c)}


def planned(name, data, *rows, seeds=1):
    return plan(read_table(name), Settings(data, seeds, ROOT / 'results', {}, ()), rows)
