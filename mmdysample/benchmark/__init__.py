"""Measure the cost of upsamplers, alone and in models: medians and quartiles of times, peak memory, parameters, FLOPs.

:func:`mmdysample.benchmark.upsamplers.measure_upsamplers` returns the numbers as plain data; ``tools/benchmark.py`` is the command line.
"""
