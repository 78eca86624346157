"""Containers whose upsamplers initialise themselves when mmengine initialises a model.

The ``init_cfg`` of a neck, such as Xavier's, initialises every convolution inside the neck, including those of its upsamplers. mmengine
then calls ``init_weights`` of each child that has this method. These containers pass the call on to their modules; the containers of
``torch.nn`` have no such method.
"""

from collections.abc import Iterable
from typing import Any

from torch import nn


def init_weights(modules: Iterable[Any]) -> None:
    """Call ``init_weights`` of each module that has this method."""
    for module in modules:
        if hasattr(module, 'init_weights'):
            module.init_weights()


class ModuleList(nn.ModuleList):
    """An ``nn.ModuleList`` that passes ``init_weights`` on to its modules."""

    def init_weights(self) -> None:
        """Call ``init_weights`` of each module that has this method."""
        init_weights(self)


class Sequential(nn.Sequential):
    """An ``nn.Sequential`` that passes ``init_weights`` on to its modules."""

    def init_weights(self) -> None:
        """Call ``init_weights`` of each module that has this method."""
        init_weights(self)
