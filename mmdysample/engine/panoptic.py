"""Run panoptic configs of mmdet where panopticapi is not installed."""

from importlib.util import find_spec
from typing import Any

from mmengine.config import Config

# The classes that mmdet cannot build without panopticapi, which is on no package index.
STAND_INS = {name: f'mmdysample.{name}' for name in ('LoadPanopticAnnotations', 'CocoPanopticMetric')}


def stand_in_for_panopticapi(config: Config) -> list[str]:
    """Replace mmdet's classes that need panopticapi with those of this package, unless panopticapi is installed.

    Args:
        config: The config, changed in place, so that its saved copy names the classes that were used.

    Returns:
        Lines for the user that name the replaced classes.
    """
    if find_spec('panopticapi'):
        return []
    replaced = sorted(_replace(dict(config.items())))
    return [f'panopticapi is not installed: {", ".join(replaced)} replace the classes that need it'] if replaced else []


def _replace(node: Any) -> set[str]:
    children = list(node.values()) if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else []
    replaced = set().union(*map(_replace, children))
    if isinstance(node, dict) and (name := str(node.get('type')).removeprefix('mmdet.')) in STAND_INS:
        node['type'] = STAND_INS[name]
        replaced.add(STAND_INS[name])
    return replaced
