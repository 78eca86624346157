"""What upsamplers cost, alone and in models: measured, with the spread of the times.

``measure_upsamplers`` gives the numbers as plain data; ``tools/benchmark.py`` is the command line.
"""

from .environment import Environment
from .timing import Timing
from .upsamplers import Cost, Measured, measure_upsamplers

__all__ = ['Cost', 'Environment', 'Measured', 'Timing', 'measure_upsamplers']
