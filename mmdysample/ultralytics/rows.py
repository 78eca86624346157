"""The class of a row: an upsampler that Ultralytics' ``parse_model`` can build, copy and pickle."""

import inspect
from collections.abc import Iterator
from functools import cache
from typing import Any

from torch import nn

from mmdysample.upsamplers.builder import list_upsamplers, resolve

LARGEST_RATIO = 8  # a larger first argument is a number of channels, as other implementations of such rows take it
# What a row does not say: its channels follow from its input, and the model moves and initialises its modules itself.
NOT_IN_ROWS = ('in_channels', 'channels', 'out_channels', 'init_cfg', 'device', 'dtype')


def row_classes() -> dict[str, Any]:
    """Return the class of a row for every registered upsampler that is not guided, by name.

    ``nearest``, ``bilinear`` and ``deconv`` are missing, because Ultralytics has rows for the classes of ``torch.nn``.
    """
    return {name: row_class(cls) for name, cls in _registered() if cls.guided is False}


def guided_names() -> list[str]:
    """Return the names of all guided upsamplers, which cannot be rows."""
    return [name for name, cls in _registered() if cls.guided]


def _registered() -> Iterator[tuple[str, Any]]:
    for name in list_upsamplers():
        cls = _class(name)
        if hasattr(cls, 'guided'):
            yield name, cls


def _class(name: str) -> Any:
    try:
        return resolve(name)[1]
    except ValueError:  # registered by somebody, but no upsampler
        return None


@cache
def row_class(base: Any) -> Any:
    """Return the class of a row: a subclass of an upsampler's class with the arguments of a row.

    It is called with the channels and the arguments that the yaml file gives, or with the channels of all rows so far, the index of the
    input among them, and the arguments.
    """
    title = next((name for name, cls in _registered() if cls is base), base.__name__)

    class Row(base):
        row_base = base
        name = title  # in error messages

        def __init__(self, channels: Any, *arguments: Any) -> None:
            if isinstance(channels, list):
                channels, arguments = channels[arguments[0]], arguments[1:]
            super().__init__(**_arguments(base, title, channels, arguments))

        def __reduce_ex__(self, protocol: Any) -> tuple:
            # Pickle cannot find this class by name, because it is created at run time. Copies and pickles create it again from its base.
            _, _, *state = super().__reduce_ex__(4)
            return make_row, (base,), *state

    Row.__name__ = Row.__qualname__ = base.__name__
    Row.__module__ = 'mmdysample.ultralytics'  # Ultralytics prints it
    Row.__doc__ = base.__doc__
    return Row


def make_row(base: Any) -> nn.Module:
    """Return an uninitialised row of an upsampler's class. Pickles and copies call it.

    A pickle names this function, so that unpickling imports this package and thereby registers the rows.
    """
    cls = row_class(base)
    return cls.__new__(cls)


def is_row(module: nn.Module) -> bool:
    """Return True if a module is the row of an upsampler."""
    return hasattr(type(module), 'row_base')


def _arguments(base: type, title: str, channels: Any, given: tuple) -> dict[str, Any]:
    """Return the arguments of an upsampler's constructor.

    Raises:
        ValueError: The row has too many arguments or an unknown one, or the first is no ratio.
    """
    parameters = inspect.signature(base).parameters
    if isinstance(channels, bool) or not isinstance(channels, int):
        raise ValueError(f'{title}: the channels of a row must be an integer, got {channels!r}: import mmdysample.ultralytics first')
    names = [name for name, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD and name not in NOT_IN_ROWS]
    rule = f'{title}: the arguments of a row are [{", ".join(names)}], without channels, which are inferred'
    listed, named = (given[:-1], given[-1]) if given and isinstance(given[-1], dict) else (given, {})
    if listed and (isinstance(listed[0], bool) or not isinstance(listed[0], int) or not 1 <= listed[0] <= LARGEST_RATIO):
        raise ValueError(f'{rule}; the first is the ratio, from 1 to {LARGEST_RATIO}, got {list(given)}')
    if len(listed) > len(names):
        raise ValueError(f'{rule}; got {list(given)}')
    arguments = dict(zip(names, listed))
    for name, value in named.items():
        if name in NOT_IN_ROWS or name in arguments or name not in parameters:
            raise ValueError(f'{rule}; a row may end with a dict of further ones by name, got {name!r} in {list(given)}')
        arguments[name] = value
    return {'in_channels' if 'in_channels' in parameters else 'channels': channels, **arguments}
