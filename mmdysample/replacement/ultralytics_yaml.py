"""The rows in the ``yaml`` of an Ultralytics model, from which its trainers build the model again.

Nothing here imports Ultralytics. The work is done in ``mmdysample.ultralytics``, which only such a model needs.
"""

from importlib import import_module
from typing import Any

from torch import nn


def write_rows(model: nn.Module) -> None:
    """Write the upsamplers of a replaced model into its ``yaml``, if it is a model of Ultralytics."""
    if _has_rows(model):
        _functions().write_rows(model)


def forget_rows(model: nn.Module) -> None:
    """Write the interpolation of a restored model into its ``yaml``, if it is a model of Ultralytics."""
    if _has_rows(model):
        _functions().forget_rows(model)


def check_network(model: nn.Module) -> None:
    """Raise a ValueError for an object such as ``YOLO(...)``, which contains a network but is called with images, files or folders."""
    if any(cls.__module__ == 'ultralytics.engine.model' for cls in type(model).__mro__):
        raise ValueError(
            f'replace_upsample needs the network of {type(model).__name__}, not the object around it: give its attribute model'
        )


def _has_rows(model: nn.Module) -> bool:
    return any(hasattr(module, 'yaml') and type(module).__module__.startswith('ultralytics.') for module in model.modules())


def _functions() -> Any:
    return import_module('mmdysample.ultralytics.replaced')
