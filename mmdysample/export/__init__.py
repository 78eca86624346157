"""Export a model or a part of it to other runtimes, and check that the exported file computes the same as PyTorch."""

from mmdysample.functional.capture import without_grid_sample

__all__ = ['without_grid_sample']
