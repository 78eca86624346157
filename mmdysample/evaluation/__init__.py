"""Metrics: the computations on arrays, and the classes that mmengine calls."""
