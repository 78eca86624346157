"""Initialisations that several upsamplers share. Each also sets the bias, if there is one, to zero."""

from typing import Any

from torch import nn


def xavier_uniform(conv: Any) -> None:
    """Fill a convolution's weights from Xavier's uniform distribution."""
    nn.init.xavier_uniform_(conv.weight)
    _zero_bias(conv)


def normal(conv: Any, std: float) -> None:
    """Fill a convolution's weights from a normal distribution with mean 0 and standard deviation ``std``."""
    nn.init.normal_(conv.weight, std=std)
    _zero_bias(conv)


def kaiming_normal(conv: Any) -> None:
    """Fill a convolution's weights from Kaiming's normal distribution for ReLU, with ``fan_out`` to preserve the gradients' variance."""
    nn.init.kaiming_normal_(conv.weight, mode='fan_out', nonlinearity='relu')
    _zero_bias(conv)


def constant(layer: Any, value: float) -> None:
    """Fill the weights of a convolution or normalisation layer with a constant."""
    nn.init.constant_(layer.weight, value)
    _zero_bias(layer)


def _zero_bias(layer: Any) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
