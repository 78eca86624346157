"""Measure the time and memory of upsamplers, alone and in models, on CPU or CUDA."""

import os
import sys
from pathlib import Path

# Set before torch is imported, or its profiler would log every start and stop.
os.environ.setdefault('KINETO_LOG_LEVEL', '99')
os.environ.setdefault('TORCH_CPP_LOG_LEVEL', 'ERROR')

from mmdysample.engine.errors import exit_on_error

with exit_on_error():
    from mmdysample.benchmark.command import main

if __name__ == '__main__':
    sys.exit(main(Path(__file__).parents[1], sys.argv[1:]))
