"""Use a user's depth maps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .maps import use_maps
from .places import Split


def use_depth_maps(
    config: Config, folder: Path, splits: Mapping[str, Split], datasets: Mapping[str, list[dict[str, Any]]], options: Mapping[str, Any]
) -> list[str]:
    """Change a config so that it reads images and depth maps.

    The folders are those of the config, or else ``images/train*/`` and ``annotations/train*/``, with ``test*`` or ``val*`` for validation.

    Args:
        config: The config, changed in place.
        folder: The folder.
        splits: The paths that the user gave.
        datasets: The datasets of each split.
        options: What ``--cfg-options`` changed.

    Returns:
        Lines for the user.

    Raises:
        ValueError: A folder is missing, there is more than one candidate, or the names of images and maps do not belong together.
    """
    return use_maps(config, folder, splits, datasets, options, 'depth_map_path', ('test*/', 'val*/'))[1]
