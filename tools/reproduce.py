"""Train and test the rows of the paper's tables, and print them with a column of your own."""

import os
import sys
from pathlib import Path

# Before torch is imported: its profiler, which measures the memory of `complexity`, would log every start and stop.
os.environ.setdefault('KINETO_LOG_LEVEL', '99')
os.environ.setdefault('TORCH_CPP_LOG_LEVEL', 'ERROR')

from mmdysample.engine.errors import exit_on_error

with exit_on_error():
    from mmdysample.reproduction.command import main

if __name__ == '__main__':
    sys.exit(main(Path(__file__).parents[1]))
