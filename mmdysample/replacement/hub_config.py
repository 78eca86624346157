"""The recipe in the ``config`` of a transformers model, which ``save_pretrained`` writes to ``config.json``.

Nothing here imports transformers: a model counts as one of its models if it and its ``config`` have ``save_pretrained``.
"""

from typing import Any, Optional

from torch import nn

KEY = 'mmdysample'  # the attribute of the config


def recorded(model: nn.Module) -> Optional[dict[str, Any]]:
    """Return the recipe in the config of a model, or None."""
    return getattr(_config(model), KEY, None)


def record(model: nn.Module, recipe: dict[str, Any]) -> None:
    """Write a recipe into the config of a model, if it has one that ``save_pretrained`` writes."""
    config = _config(model)
    if config is not None:
        setattr(config, KEY, recipe)


def forget(model: nn.Module) -> None:
    """Remove the recipe from the config of a model."""
    if recorded(model):
        delattr(_config(model), KEY)


def is_hub_model(model: nn.Module) -> bool:
    """Return True if ``save_pretrained`` of a model writes its config."""
    return _config(model) is not None


def _config(model: nn.Module) -> Any:
    config = getattr(model, 'config', None)
    return config if hasattr(model, 'save_pretrained') and hasattr(config, 'save_pretrained') else None
