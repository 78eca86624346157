"""Export models for other runtimes: which part, in which form, and a check that the file computes the same."""

from .gathers import without_grid_sample

__all__ = ['without_grid_sample']
