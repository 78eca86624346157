"""Train and test the rows of the paper's tables, and print the tables with a column of your own results."""

import os
import sys
from pathlib import Path

# Set before torch is imported, or its profiler, which measures memory for `complexity`, would log every start and stop.
os.environ.setdefault('KINETO_LOG_LEVEL', '99')
os.environ.setdefault('TORCH_CPP_LOG_LEVEL', 'ERROR')

from mmdysample.engine.errors import exit_on_error

with exit_on_error():
    from mmdysample.reproduction.command import main

if __name__ == '__main__':
    sys.exit(main(Path(__file__).parents[1]))
