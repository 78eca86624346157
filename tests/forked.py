"""Run tools in processes that start with the frameworks imported.

A tool in a fresh interpreter spends about 4 of its 5 to 8 seconds importing torch, mmdet and mmseg. Here a server process imports them
once and is forked for each run. Each run still is a process of its own: it imports mmdysample itself, registers what it registers, and
leaves no global state behind.
"""

import gc
import multiprocessing
import os
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

PACKAGES = ('datasets', 'evaluation', 'models')
PRELOADED = [f'{framework}.{name}' for framework in ('mmdet', 'mmseg') for name in PACKAGES] + ['matplotlib.pyplot']


def run_forked(command, environment, cwd, folder, timeout=300):
    """Run a Python script in a forked process and return a ``subprocess.CompletedProcess`` with its texts.

    Args:
        command: The script and its arguments.
        environment: All of its environment variables.
        cwd: Where it runs.
        folder: Where to keep what it prints until it has ended.
        timeout: Seconds after which it is killed.
    """
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(PRELOADED)
    outputs = [Path(folder) / name for name in ('stdout', 'stderr')]
    process = context.Process(target=_run_script, args=(list(map(str, command)), environment, str(cwd), outputs))
    process.start()
    process.join(timeout)
    if process.is_alive():
        process.kill()
        process.join()
        raise subprocess.TimeoutExpired(command, timeout)
    return subprocess.CompletedProcess(command, process.exitcode, *(path.read_text() for path in outputs))


def _run_script(command, environment, cwd, outputs):
    for descriptor, path in enumerate(outputs, 1):
        with path.open('w') as file:
            os.dup2(file.fileno(), descriptor)
    assert 'mmdysample' not in sys.modules
    gc.freeze()  # mmengine collects garbage for each dataset, and nothing that is imported is any
    warnings.simplefilter('ignore')
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = command
    sys.path[:0] = [str(Path(command[0]).parent), *filter(None, environment.get('PYTHONPATH', '').split(os.pathsep))]
    runpy.run_path(command[0], run_name='__main__')
