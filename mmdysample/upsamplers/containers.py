"""Containers whose upsamplers initialise themselves when mmengine initialises a model.

A neck's Xavier reaches every convolution below it. mmengine then calls ``init_weights`` of each child that has one: these containers
pass the call on, as ``torch.nn``'s do not.
"""

from collections.abc import Iterable
from typing import Any

from torch import nn


def init_weights(modules: Iterable[Any]) -> None:
    """Call ``init_weights`` of each module that has one."""
    for module in modules:
        if hasattr(module, 'init_weights'):
            module.init_weights()


class ModuleList(nn.ModuleList):
    """``nn.ModuleList`` that passes ``init_weights`` on."""

    def init_weights(self) -> None:
        """Initialise each module that initialises itself."""
        init_weights(self)


class Sequential(nn.Sequential):
    """``nn.Sequential`` that passes ``init_weights`` on."""

    def init_weights(self) -> None:
        """Initialise each module that initialises itself."""
        init_weights(self)
