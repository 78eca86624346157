"""Detectors, where a stock one cannot be told what is needed. Each is imported when :mod:`mmdysample.registry` is asked for it."""
