"""The recipe of a replaced model: plain data from which the same upsamplers can be put into another model of the same architecture.

::

    {'format': 1,
     'modules': {'neck': [{'site': 'neck:0', 'channels': 256, 'mode': 'nearest', 'ratio': 2, 'upsampler': {'type': 'DySample'}}]}}

``modules`` has an entry for each module whose calls are routed. Its list has the stops of the module in order, see
:class:`~mmdysample.replacement.routing.Stop`. ``upsampler`` is None for a call that stays unchanged.
"""

import json
from dataclasses import asdict, fields
from numbers import Integral
from typing import Any, Optional
from warnings import warn

import torch
from torch import nn

from mmdysample.upsamplers.builder import list_upsamplers, resolve

from .calls import SMOOTH
from .hub_config import is_hub_model, record, recorded
from .routing import NAME, Stop, is_routed

FORMAT = 1
CONFIG = 'upsample_config'  # the attribute of each upsampler that holds its config
WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside ``torch.compile``, ``DataParallel`` and ``DistributedDataParallel``."""
    while True:
        if isinstance(model, WRAPPERS):
            model = model.module
        elif isinstance(model, torch._dynamo.OptimizedModule):
            model = model._orig_mod
        else:
            return model


def upsample_recipe(model: nn.Module) -> dict[str, Any]:
    """Return the recipe of a replaced model.

    Args:
        model: A model that :func:`~mmdysample.replace_upsample` or :func:`~mmdysample.apply_upsample` has changed, or a copy of it. It may
            be wrapped in ``DataParallel``, ``DistributedDataParallel`` or ``torch.compile``.

    Returns:
        Plain data, which ``json`` can write: the sites, channels, ratios and configs of the upsamplers. It contains no weights.

    Raises:
        ValueError: The model has no upsamplers, or the config of one cannot be written as plain data.
    """
    modules = {name: _stops(module) for name, module in unwrapped(model).named_modules() if is_routed(module)}
    if not modules:
        raise ValueError(f'{type(unwrapped(model)).__name__} has no upsamplers of replace_upsample, so it has no recipe')
    return {'format': FORMAT, 'modules': modules}


def keep_recipe(model: nn.Module) -> None:
    """Write the recipe into the config of a transformers model, so that ``save_pretrained`` saves it."""
    inner = unwrapped(model)
    if is_hub_model(inner):
        try:
            record(inner, upsample_recipe(inner))
        except ValueError as error:
            warn(f'save_pretrained will not save the upsamplers of {type(inner).__name__}: {error}', stacklevel=4)


def warn_if_dropped(model: nn.Module) -> None:
    """Warn if a model has a recipe in its config, but no upsamplers, as after a plain ``from_pretrained``."""
    inner = unwrapped(model)
    if recorded(inner) and not any(map(is_routed, inner.modules())):
        warn(
            f'{type(inner).__name__} has no upsamplers, but its config has a recipe of some. If it was loaded from a folder, their trained '
            'weights were dropped: load it with mmdysample.transformers.from_pretrained',
            stacklevel=4,
        )


def _stops(owner: nn.Module) -> list[dict[str, Any]]:
    stops = []
    for stop in owner.upsample_stops:  # type: ignore[union-attr]
        row = asdict(stop)
        if stop.upsampler is not None:
            row['upsampler'] = _stored(getattr(getattr(owner, NAME)[stop.upsampler], CONFIG, None), stop.site)
        stops.append(row)
    return stops


def _stored(config: Optional[dict[str, Any]], site: str) -> dict[str, Any]:
    """Return the config of an upsampler as plain data."""
    if config is None:
        raise ValueError(f'the upsampler of {site} was not built by replace_upsample, so the recipe cannot store it')
    return _plain({**config, 'type': _name(config, site)}, site)


def _name(config: dict[str, Any], site: str) -> str:
    kind = config['type']
    if isinstance(kind, str):
        return kind
    if kind is nn.Upsample:  # it has several names, one for each mode
        return config.get('mode', 'nearest')
    for name in list_upsamplers():
        if resolve(name)[1] is kind:
            return name
    raise ValueError(
        f'the upsampler of {site}, {kind.__name__}, cannot be stored, because it is not registered: decorate the class with '
        '@mmdysample.register_upsampler()'
    )


def _plain(value: Any, site: str) -> Any:
    if value is None or isinstance(value, (str, bool, float)):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item, site) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, site) for key, item in value.items()}
    raise ValueError(f'the upsampler of {site} cannot be stored: {value!r} in its config is not plain data (numbers, texts, lists, dicts)')


Plan = dict[str, list[tuple[Stop, Optional[dict[str, Any]]]]]


def parse_recipe(recipe: Any) -> Plan:
    """Return the stops of each module in a recipe, each with the config of its upsampler.

    Raises:
        ValueError: The recipe has a newer format, or is broken.
    """
    if not isinstance(recipe, dict) or not isinstance(recipe.get('format'), int):
        raise _broken(f"it must be a dict with 'format' and 'modules', got {recipe!r}")
    if recipe['format'] > FORMAT:
        raise ValueError(
            f'the recipe has format {recipe["format"]}, but this version of mmdysample reads up to {FORMAT}: upgrade mmdysample'
        )
    modules = recipe.get('modules')
    if not isinstance(modules, dict) or not modules or not all(isinstance(rows, list) for rows in modules.values()):
        raise _broken(f"'modules' must be a dict of lists, got {modules!r}")
    plan = {str(name): _parse_rows(rows) for name, rows in modules.items()}
    if not any(config for stops in plan.values() for _, config in stops):
        raise _broken('it has no upsampler')
    return plan


def _parse_rows(rows: list[Any]) -> list[tuple[Stop, Optional[dict[str, Any]]]]:
    names = {field.name for field in fields(Stop)}
    stops: list[tuple[Stop, Optional[dict[str, Any]]]] = []
    count = 0
    for row in rows:
        if not isinstance(row, dict) or row.keys() != names:
            raise _broken(f'each call must have {", ".join(sorted(names))}, got {row!r}')
        config = row['upsampler']
        valid = isinstance(row['site'], str) and row['mode'] in SMOOTH and _is_natural(row['channels']) and _is_natural(row['ratio'])
        if not valid or (
            config is not None and not (isinstance(config, dict) and isinstance(config.get('type'), str) and row['ratio'] > 1)
        ):
            raise _broken(f'a call has invalid values: {row!r}')
        stops.append((Stop(**{**row, 'upsampler': None if config is None else count}), config))
        count += config is not None
    return stops


def _is_natural(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _broken(why: str) -> ValueError:
    return ValueError(f'the recipe is broken: {why}')


def read_recipe(text: str) -> Any:
    """Return a recipe from JSON.

    Raises:
        ValueError: The text is not JSON.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise _broken(f'it is not JSON ({error})') from error
