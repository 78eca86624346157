"""Set the upsampler of a whole config from the command line."""

import ast
import inspect
import re
from collections.abc import Iterator
from typing import Any, Optional

from mmengine.config import Config, ConfigDict

from mmdysample.locations import LOCATIONS
from mmdysample.registry import MODELS
from mmdysample.upsamplers.builder import UpsampleConfig, resolve

from .stock_upsampling import how_to_upsample

SCOPE = 'mmdysample.'


def use_upsampler(config: Config, text: str, options: Optional[dict[str, Any]] = None) -> str:
    """Set the upsampler of every module of a config's model that takes an ``upsample_cfg``.

    Args:
        config: The config, changed in place.
        text: A name, or a dict in Python syntax: ``dict(type='DySample', groups=2)`` or ``{'type': 'DySample', 'groups': 2}``.
        options: The changes that ``--cfg-options`` has already made to the config.

    Returns:
        A name for the run, such as ``SAPA-B`` or ``DySample_groups=2``.

    Raises:
        ValueError: The text is not an upsampler, no module of the model takes one, or ``options`` also change the upsampler.
    """
    upsampler, _, _ = resolve(parse_upsampler(text))
    places = upsampler_places(config)
    for option in options or {}:
        if any(option.startswith(f'{path}.upsample_cfg') for path in places):
            raise ValueError(
                f'--upsampler would override --cfg-options {option}: give all arguments in one option, as in --upsampler "dict(type=...)"'
            )
    if not places:
        remedy = how_to_upsample(config) or 'use a module that does, as model.neck.type=mmdysample.FPN'
        raise ValueError(f'--upsampler: no module in the model of {config.filename} takes one; {remedy}')
    for place in places.values():
        place['upsample_cfg'] = ConfigDict(upsampler)
    return upsampler_name(upsampler)


def upsampler_name(config: dict[str, Any]) -> str:
    """Return a folder name for an upsampler's config, such as ``SAPA-B`` or ``DySample_groups=2``."""
    arguments = (f'{key}={value}' for key, value in config.items() if key != 'type')
    return re.sub(r'[^\w+=.,-]+', '-', '_'.join((config['type'], *arguments)))


def upsampler_places(config: Config) -> dict[str, dict[str, Any]]:
    """Return the configs of the modules that take an ``upsample_cfg``, by their paths in the config."""
    return dict(_places(config.get('model'), 'model'))


def parse_upsampler(text: str) -> UpsampleConfig:
    """Return the upsampler config of a text: a name, or a dict in Python syntax.

    Raises:
        ValueError: The text is neither.
    """
    text = text.strip()
    if re.fullmatch(r'\w[\w.+-]*', text):
        return text
    try:
        config = _literal(ast.parse(text, mode='eval').body)
        if not isinstance(config, dict) or not isinstance(config.get('type'), str) or not all(isinstance(key, str) for key in config):
            raise ValueError
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise ValueError(
            f'--upsampler takes a name or a dict with a type, as in "dict(type=\'DySample\', groups=2)", got {text!r}'
        ) from None
    return config


def _literal(node: ast.AST) -> Any:
    """Return the value of an expression of literals and ``dict(key=literal)``, without executing code."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args:
        items = [(keyword.arg, _literal(keyword.value)) for keyword in node.keywords]
        if len(dict(items)) < len(items):
            raise ValueError
        return dict(items)
    return ast.literal_eval(node)


def _places(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the configs of this package's modules that take an ``upsample_cfg``, each with its path."""
    if isinstance(node, dict) and _takes_upsampler(node.get('type')):
        yield path, node
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, child in children:
        yield from _places(child, f'{path}.{key}')


def _takes_upsampler(kind: Any) -> bool:
    if not isinstance(kind, str) or not kind.startswith(SCOPE) or kind.removeprefix(SCOPE) not in LOCATIONS:
        return False
    cls = MODELS.get(kind)
    return cls is not None and 'upsample_cfg' in inspect.signature(cls).parameters
