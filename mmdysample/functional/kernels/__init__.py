"""Triton kernels.

Triton comes with PyTorch's CUDA builds, so there is no extension to compile. Other modules import this package only inside the functions
that launch the kernels, so that mmdysample works without Triton.
"""
