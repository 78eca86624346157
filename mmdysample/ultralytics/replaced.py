"""Keep what ``replace_upsample`` does to a model of Ultralytics, whose trainers build the model again from ``model.yaml``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from warnings import warn

from torch import nn

from mmdysample.replacement.recipe import CONFIG
from mmdysample.replacement.routing import NAME, is_routed

from .rows import NOT_IN_ROWS, is_row, row_class, row_classes

FOLDER = Path(__file__).parent / 'models'


def is_parsed(module: nn.Module) -> bool:
    """Return True for a model that Ultralytics built from the rows of a yaml file."""
    rows = getattr(module, 'yaml', None)
    return isinstance(rows, dict) and 'backbone' in rows and 'head' in rows and isinstance(getattr(module, 'model', None), nn.Sequential)


def write_rows(model: nn.Module) -> None:
    """Write the upsamplers of a replaced model into ``model.yaml``, and warn where its trainer will not have them."""
    for parsed in filter(is_parsed, model.modules()):
        classes = row_classes()
        kept = set()
        for row, module in _rows(parsed):
            if is_routed(module) and row[2] == 'nn.Upsample' and _is_row_like(module, classes):
                (upsampler,), (stop,) = getattr(module, NAME), module.upsample_stops  # type: ignore[misc]
                config = dict(getattr(upsampler, CONFIG))
                cls: Any = type(upsampler)
                upsampler.__class__ = row_class(cls)  # pickles of it import this package, see make_row
                row[2:] = [_row_name(config.pop('type')), [stop.ratio, config] if config else [stop.ratio]]
                kept.add(module)
            elif is_routed(module) and row[2] in classes:
                kept.add(module)
        routed = {name: module for name, module in parsed.named_modules() if hasattr(module, NAME) and is_routed(module)}
        _warn(parsed, [name for name, module in routed.items() if module not in kept], bool(kept))


def forget_rows(model: nn.Module) -> None:
    """Write the interpolation of a restored model into ``model.yaml``."""
    for parsed in filter(is_parsed, model.modules()):
        for row, module in _rows(parsed):
            if type(module) is nn.Upsample and row[2] != 'nn.Upsample':
                corners = [] if module.align_corners is None else [module.align_corners]
                row[2:] = ['nn.Upsample', [None, int(module.scale_factor), module.mode, *corners]]  # type: ignore[arg-type]


def take_over(source: nn.Module, model: nn.Module) -> int:
    """Load the weights of replaced upsamplers into the rows that a model has in their places, and return how many there are."""
    rows = {name: module for name, module in model.named_modules() if is_row(module)}
    count = 0
    for name, module in source.named_modules():
        if is_routed(module) and name in rows and len(getattr(module, NAME, ())) == 1:
            (upsampler,) = getattr(module, NAME)
            have, weights = rows[name].state_dict(), upsampler.state_dict()
            if {key: value.shape for key, value in have.items()} == {key: value.shape for key, value in weights.items()}:
                rows[name].load_state_dict(weights)
                count += 1
    return count


def _rows(parsed: Any) -> Iterator[tuple[list, nn.Module]]:
    return zip([*parsed.yaml['backbone'], *parsed.yaml['head']], parsed.model)


def _is_row_like(module: Any, classes: dict[str, Any]) -> bool:
    """Return True if a row can say what the only upsampler of a module is."""
    upsamplers: Any = getattr(module, NAME, ())
    if len(upsamplers) != 1 or len(module.upsample_stops) != 1:
        return False
    config: dict[str, Any] = getattr(upsamplers[0], CONFIG, {})
    cls = classes.get(_row_name(config.get('type', '')))
    # A chain of upsamplers, for a ratio that is not prime, is no upsampler of the row's class.
    return cls is not None and isinstance(upsamplers[0], cls.row_base) and not config.keys() & set(NOT_IN_ROWS)


def _row_name(kind: Any) -> str:
    """Return the name in a row for the type of a config: a name, perhaps with the scope of mmengine's registry, or a class."""
    return kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__


def _warn(parsed: Any, lost: list[str], changed: bool) -> None:
    if lost:
        warn(
            f'a trainer of Ultralytics builds the model again from model.yaml, without the upsamplers of {", ".join(lost)}, which no row '
            'can say: exclude them, or train with a loop of your own',
            stacklevel=6,
        )
    elif changed and hasattr(parsed, 'task') and not hasattr(parsed, 'pt_path'):
        file = str(parsed.yaml.get('yaml_file', 'its yaml file'))
        warn(
            f'model.train(...) may build the model again from {file}, without the upsamplers: train {_own_file(parsed, file)}, or save '
            f"the model with {_how_to_save()} and train YOLO('replaced.pt')",
            stacklevel=6,
        )


def _how_to_save() -> str:
    from ultralytics.engine.model import Model

    # Models of older versions of Ultralytics have no such method.
    return "model.save('replaced.pt')" if hasattr(Model, 'save') else "torch.save({'model': model.model}, 'replaced.pt')"


def _own_file(parsed: Any, file: str) -> str:
    """Return what to train instead of a yaml file: the file of this package, or the rows that a copy of the file needs."""
    path = Path(file)
    every = [row for row, _ in _rows(parsed)]
    rows = {i: row for i, row in enumerate(every) if row[2] in row_classes()}
    scale = parsed.yaml.get('scale') or ''
    own = f'{path.stem}-dysample.yaml'
    known = own if (FOLDER / own).is_file() else _without_scale(own, scale)
    is_whole = all(row[2:] == ['DySample', [2]] for row in rows.values()) and not any(row[2] == 'nn.Upsample' for row in every)
    if (FOLDER / known).is_file() and is_whole:
        return own
    return f'a copy of it with {", ".join(f"{row} as row {i}" for i, row in rows.items())}'


def _without_scale(name: str, scale: str) -> str:
    head, dash, rest = name.partition('-')
    return f'{head.removesuffix(scale)}{dash}{rest}'
