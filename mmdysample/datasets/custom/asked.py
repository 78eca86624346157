"""What the user has asked for with --cfg-options."""

from collections.abc import Mapping
from typing import Any


def asked_for(options: Mapping[str, Any], name: str, within: str = '') -> Any:
    """Return the value that ``--cfg-options`` gives to an argument of the datasets.

    Args:
        options: The options, such as ``{'train_dataloader.dataset.reduce_zero_label': False}``.
        name: The argument, such as ``'reduce_zero_label'``.
        within: Only options whose keys begin with this, such as ``'train'``.

    Returns:
        The value, or None if there is none.

    Raises:
        ValueError: The argument is given two different values.
    """
    given = {key: value for key, value in options.items() if key.startswith(within) and key.endswith(f'.{name}') and 'dataloader' in key}
    values = list(given.values())
    if any(value != values[0] for value in values):
        raise ValueError(f'--cfg-options gives {name} different values: ' + ', '.join(f'{key}={value}' for key, value in given.items()))
    return values[0] if values else None
