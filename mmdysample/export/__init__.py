"""Export a model or a part of it to other runtimes, and check that the exported file computes the same as PyTorch."""

from mmdysample.functional.capture import with_deform_conv, without_grid_sample

__all__ = ['with_deform_conv', 'without_grid_sample']
