"""The upsampler of a whole config, from the command line."""

import ast
import inspect
import re
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config, ConfigDict

from mmdysample.registry import LOCATIONS, MODELS
from mmdysample.upsamplers.builder import UpsampleConfig, resolve

SCOPE = 'mmdysample.'


def use_upsampler(config: Config, text: str) -> str:
    """Put an upsampler wherever the model of a config has one.

    Args:
        config: The config.
        text: A name, or a dict in Python syntax: ``dict(type='DySample', groups=2)`` or ``{'type': 'DySample', 'groups': 2}``.

    Returns:
        A name for the run, such as ``SAPA-B`` or ``DySample_groups=2``.

    Raises:
        ValueError: The text is no upsampler, or nothing in the model takes one.
    """
    upsampler, _, _ = resolve(parse_upsampler(text))
    places = list(_places(config.get('model')))
    if not places:
        raise ValueError(
            f'--upsampler: nothing in the model of {config.filename} takes one; swap something in that does, e.g. '
            'with --cfg-options model.neck.type=mmdysample.FPN or model.decode_head.type=mmdysample.SegformerHead'
        )
    for place in places:
        place['upsample_cfg'] = ConfigDict(upsampler)
    arguments = (f'{key}={value}' for key, value in upsampler.items() if key != 'type')
    return re.sub(r'[^\w+=.,-]+', '-', '_'.join((upsampler['type'], *arguments)))


def parse_upsampler(text: str) -> UpsampleConfig:
    """Read a name, or a dict in Python syntax.

    Raises:
        ValueError: It is neither.
    """
    if re.fullmatch(r'[\w.+-]+', text.strip()):
        return text.strip()
    try:
        tree = ast.parse(text.strip(), mode='eval').body
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id == 'dict' and not tree.args:
            config = {keyword.arg: ast.literal_eval(keyword.value) for keyword in tree.keywords}
        else:
            config = ast.literal_eval(tree)
        if not isinstance(config, dict) or not isinstance(config.get('type'), str) or None in config:
            raise ValueError
    except (SyntaxError, ValueError):
        raise ValueError(f'--upsampler takes a name or a dict with a type, as in "dict(type=\'DySample\', groups=2)", got {text}') from None
    return config


def _places(node: Any) -> Iterator[dict[str, Any]]:
    """The configs of modules of ours that take an upsampler."""
    if isinstance(node, dict):
        if _takes_upsampler(node.get('type')):
            yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from _places(child)


def _takes_upsampler(kind: Any) -> bool:
    if not isinstance(kind, str) or not kind.startswith(SCOPE) or kind.removeprefix(SCOPE) not in LOCATIONS:
        return False
    cls = MODELS.get(kind)
    return cls is not None and 'upsample_cfg' in inspect.signature(cls).parameters
