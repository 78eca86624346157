"""What ``import mmdysample.ultralytics`` changes in Ultralytics, in this process.

- ``ultralytics.nn.tasks`` gets the classes of the rows, and its ``parse_model`` passes them the channels of their input.
- Model files of this package are found by name.
- A model with rows takes over the weights of the upsamplers that :func:`~mmdysample.replace_upsample` has put into another one.
- Every trainer has a callback of this module, so that the processes of a training on several GPUs import it.
- ``torch.load(weights_only=True)``, and so ``ULTRALYTICS_SAFE_LOAD=1``, accepts the rows.
"""

import sys
from collections.abc import Callable
from copy import deepcopy
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.nn import tasks
from ultralytics.utils import LOGGER, dist
from ultralytics.utils.callbacks.base import default_callbacks

from mmdysample.replacement import routing
from mmdysample.upsamplers import containers

from .replaced import FOLDER, take_over
from .rows import guided_names, make_row, row_classes


def install() -> None:
    """Change Ultralytics as the module describes."""
    add_rows()
    _replace_everywhere('parse_model', _parse_model(tasks.parse_model))
    _replace_everywhere('generate_ddp_file', _generate_ddp_file(dist.generate_ddp_file))
    tasks.check_yaml = _check_yaml(tasks.check_yaml)
    tasks.BaseModel.load = _load(tasks.BaseModel.load)
    default_callbacks['on_pretrain_routine_start'].append(import_plugin)
    safe: list[Any] = [make_row, routing._make, routing.Stop, containers.ModuleList, containers.Sequential]
    routed = routing.routed_class(nn.Upsample)
    torch.serialization.add_safe_globals([*safe, (routed, 'mmdysample.ultralytics.RoutedUpsample')])


def add_rows() -> None:
    """Give ``ultralytics.nn.tasks`` the class of a row for each upsampler that it lacks."""
    for name, cls in row_classes().items():
        present = vars(tasks).setdefault(name, cls)
        if present is cls:
            torch.serialization.add_safe_globals([cls, *_modules_beside(cls.row_base)])


def _modules_beside(upsampler: type) -> list[type]:
    """Return the modules of the file of an upsampler: itself and its parts."""
    every = vars(sys.modules[upsampler.__module__]).values()
    return [cls for cls in every if isinstance(cls, type) and issubclass(cls, nn.Module) and cls.__module__ == upsampler.__module__]


def import_plugin(trainer: Any) -> None:
    """Do nothing. Unpickling this callback in another process imports this module."""


def _replace_everywhere(name: str, function: Callable) -> None:
    """Put a function in the place of the one that it wraps, in every module that has imported that one."""
    for module in list(sys.modules.values()):
        if getattr(module, '__dict__', {}).get(name) is function.__wrapped__:  # type: ignore[attr-defined]
            setattr(module, name, function)


def _parse_model(stock: Callable) -> Callable:
    @wraps(stock)
    def parse_model(d: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Build a model, with the channels of its input as an argument of each row of an upsampler.

        The stock function replaces a text among the arguments of a row by its own local variable of that name: ``ch``, the channels of all
        rows so far, or ``c2``, those of the previous row. It changes the dict, so the copy also keeps the row of the caller as it is.
        """
        add_rows()  # an upsampler may have been registered since the last call
        d = deepcopy(d)
        for i, row in enumerate([*d['backbone'], *d['head']]):
            source, _, name, arguments = row
            if not isinstance(name, str) or not hasattr(getattr(tasks, name, None), 'row_base'):
                _check_name(i, name)
                continue
            if not isinstance(source, int) or not isinstance(arguments, list):
                raise ValueError(f'row {i}: {name} takes one map, `from` is its number, and a list of arguments, got {source}, {arguments}')
            for text in (argument for argument in arguments if isinstance(argument, str)):
                if text in stock.__code__.co_varnames or not _is_expression(text):  # the stock function evaluates it
                    raise ValueError(f'row {i}: {name} takes the text {text!r} by name, in a dict at the end of its arguments')
            row[3] = ['c2', *arguments] if source == -1 else ['ch', source, *arguments]
        return stock(d, *args, **kwargs)

    return parse_model


def _is_expression(text: str) -> bool:
    try:
        compile(text, '', 'eval')
    except (SyntaxError, ValueError):
        return False
    return True


def _check_name(i: int, name: Any) -> None:
    """Raise a ValueError if Ultralytics does not know a name, and it is a guided upsampler or close to the name of another one."""
    if not isinstance(name, str) or '.' in name or hasattr(tasks, name):
        return
    known = row_classes()
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = [by_lower[match] for match in get_close_matches(name.lower(), by_lower, cutoff=0.7)]
    if name in guided_names():
        raise ValueError(f'row {i}: {name} is guided, it needs a second map; upsamplers for rows are {", ".join(known)}')
    if near:
        raise ValueError(f'row {i}: neither Ultralytics nor mmdysample has {name!r}; did you mean {" or ".join(map(repr, near))}?')


def _check_yaml(stock: Callable) -> Callable:
    @wraps(stock)
    def check_yaml(file: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the path of a yaml file, also of a model file of this package if the current folder has none of its name."""
        path = Path(str(file))
        own = FOLDER / path.name
        return str(own) if len(path.parts) == 1 and own.is_file() and not path.exists() else stock(file, *args, **kwargs)

    return check_yaml


def _load(stock: Callable) -> Callable:
    @wraps(stock)
    def load(self: Any, weights: Any, *args: Any, **kwargs: Any) -> Any:
        """Load the weights of another model, also those of its upsamplers that this model has as rows."""
        result = stock(self, weights, *args, **kwargs)
        source = weights if isinstance(weights, nn.Module) else weights.get('ema') or weights['model']
        count = take_over(source, self)
        if count:
            LOGGER.info(f'mmdysample: transferred the weights of {count} upsamplers of replace_upsample to rows')
        return result

    return load


def _generate_ddp_file(stock: Callable) -> Callable:
    @wraps(stock)
    def generate_ddp_file(trainer: Any) -> str:
        """Write the script of the processes of a training on several GPUs, which import this package too.

        In newer versions of Ultralytics, the script loads the callbacks of the trainer, which do that.
        """
        file = stock(trainer)
        path = Path(file)
        text = path.read_text(encoding='utf-8')
        if '_callbacks' not in text:
            path.write_text(f'import mmdysample.ultralytics\n{text}', encoding='utf-8')
        return file

    return generate_ddp_file
