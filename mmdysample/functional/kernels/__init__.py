"""Kernels in Triton, which comes with PyTorch's CUDA builds: nothing to compile by hand. Imported where they are needed, and only there."""
