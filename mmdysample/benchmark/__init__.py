"""Measure the cost of upsamplers, alone and in models: medians and quartiles of times, peak memory, parameters, FLOPs.

``measure_upsamplers`` returns the numbers as plain data; ``tools/benchmark.py`` is the command line.
"""

from .environment import Environment
from .timing import Timing
from .upsamplers import Cost, Measured, measure_upsamplers

__all__ = ['Cost', 'Environment', 'Measured', 'Timing', 'measure_upsamplers']
