"""Save the upsamplers of a replaced model in a safetensors file, and load them again.

The file holds the weights of the upsamplers by their names in the model, and the recipe as JSON in its metadata.
"""

import copy
import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Union

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mmdysample.frameworks import require_package

from .apply import build, put, renewed
from .hub_config import KEY
from .recipe import Plan, parse_recipe, read_recipe, unwrapped, upsample_recipe
from .routing import NAME, Stop, is_routed

PathLike = Union[str, 'os.PathLike[str]']


def save_upsamplers(model: nn.Module, file: PathLike) -> None:
    """Save the upsamplers of a replaced model, with its recipe, in a safetensors file.

    The file holds only the upsamplers. Save all other weights as usual, for example with ``torch.save(model.state_dict(), ...)``.

    Args:
        model: A model that :func:`~mmdysample.replace_upsample` or :func:`~mmdysample.apply_upsample` has changed. It may be wrapped in
            ``DataParallel``, ``DistributedDataParallel`` or ``torch.compile``.
        file: The path of the file, which must not exist.

    Raises:
        ValueError: The model has no upsamplers, their configs or weights cannot be stored, or the file exists.
        ImportError: safetensors is not installed.
    """
    pack = _safetensors('save_upsamplers').torch.save
    model, path = unwrapped(model), Path(file)
    recipe = upsample_recipe(model)
    weights = {
        f'{slot.prefix}{key}': value
        for slot in _slots(model, parse_recipe(recipe))
        for key, value in slot.upsampler.state_dict(keep_vars=True).items()
    }
    for name, value in weights.items():
        if not isinstance(value, Tensor) or is_lazy(value) or value.is_meta:
            raise ValueError(f'save_upsamplers cannot store {name}, which is not a tensor with values')
    content = pack({name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}, {KEY: json.dumps(recipe)})
    if path.exists():
        raise ValueError(f'save_upsamplers does not overwrite {path}: delete it first, or give another name')
    part = path.with_name(f'.{path.name}.{os.getpid()}')  # a full disk must not leave half a file under the final name
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def load_upsamplers(model: nn.Module, file: PathLike) -> nn.Module:
    """Load the upsamplers of a file of :func:`save_upsamplers` into a model, in place.

    If the model has no upsamplers, they are first put in as by :func:`~mmdysample.apply_upsample`. The upsamplers keep the device and dtype
    that they have in the model; upsamplers on the ``meta`` device are replaced by real ones on the CPU.

    Args:
        model: The model that was saved, or another one of its architecture. It may be wrapped as in :func:`save_upsamplers`.
        file: The path of the file.

    Returns:
        The same model.

    Raises:
        ValueError: The file is not one of :func:`save_upsamplers`; its recipe does not fit the model; or a weight is missing, left over
            or of another shape. The model is then unchanged.
        FileNotFoundError: The file does not exist.
        ImportError: safetensors is not installed.
    """
    recipe, weights = _read(Path(file))
    plan, inner = parse_recipe(recipe), unwrapped(model)
    if any(map(is_routed, inner.modules())):
        _check_fit(parse_recipe(upsample_recipe(inner)), plan, file)
        built = None
        slots = _slots(inner, plan)
    else:
        built = build(model, plan)
        slots = _slots(inner, plan, {name: made.upsamplers for name, made in built.items()})
    parts = [{key: weights.pop(f'{slot.prefix}{key}') for key in slot.keys_in(weights)} for slot in slots]
    if weights:
        raise ValueError(f'{file} has weights that belong to no upsampler of its recipe: {", ".join(sorted(weights))}')
    # Load everything into copies first, so that a weight that does not fit changes nothing.
    trials = [_loaded(slot, part, file) for slot, part in zip(slots, parts)]
    for slot, part, trial in zip(slots, parts, trials):
        if _on_meta(slot.upsampler):
            slot.upsamplers[slot.at] = trial
        else:
            slot.upsampler.load_state_dict(part)
    if built:
        put(inner, built)
    return model


class Slot(NamedTuple):
    """The place of an upsampler.

    Attributes:
        prefix: The names of its weights in the model begin with this.
        stop: Its stop.
        config: Its config.
        upsamplers: The list that holds it: ``upsample_modules`` of its owner, or the list from which that will be made.
        at: Its index in the list.
    """

    prefix: str
    stop: Stop
    config: dict[str, Any]
    upsamplers: Any
    at: int

    @property
    def upsampler(self) -> nn.Module:
        """The upsampler."""
        return self.upsamplers[self.at]

    def keys_in(self, weights: dict[str, Tensor]) -> list[str]:
        """Return the names in this upsampler of those weights that belong to it."""
        return [name[len(self.prefix) :] for name in weights if name.startswith(self.prefix)]


def _slots(model: nn.Module, plan: Plan, lists: Any = None) -> list[Slot]:
    """Return the place of each upsampler of a plan, in the given lists or else in the model."""
    slots = []
    for name, stops in plan.items():
        upsamplers = lists[name] if lists else getattr(model.get_submodule(name), NAME, ())
        for stop, config in stops:
            if config is not None and stop.upsampler is not None:
                prefix = '.'.join(filter(None, (name, NAME, str(stop.upsampler))))
                slots.append(Slot(f'{prefix}.', stop, config, upsamplers, stop.upsampler))
    return slots


def _loaded(slot: Slot, part: dict[str, Tensor], file: PathLike) -> nn.Module:
    """Return a copy of an upsampler with these weights; the copy of one on ``meta`` is on the CPU."""
    old = slot.upsampler
    trial = renewed(old, slot.stop, slot.config, torch.device('cpu')) if _on_meta(old) else copy.deepcopy(old)
    try:
        trial.load_state_dict(part)
    except RuntimeError as error:
        raise ValueError(f'{file} does not fit the upsampler of {slot.stop.site}: {" ".join(str(error).split())}') from error
    return trial


def _on_meta(module: nn.Module) -> bool:
    return any(weight.is_meta for weight in module.parameters())


def _check_fit(own: Plan, plan: Plan, file: PathLike) -> None:
    """Raise a ValueError unless a model has the same upsamplers at the same places as a file."""
    have, want = _upsamplers(own), _upsamplers(plan)
    for key in [*want, *have]:
        if have.get(key) != want.get(key):
            raise ValueError(
                f'{file} does not fit the model, which is already replaced: at site {key[1]}, the file has {want.get(key, "no upsampler")} '
                f'and the model {have.get(key, "no upsampler")}; call restore_upsample(model) first to use those of the file'
            )


def _upsamplers(plan: Plan) -> dict[tuple[str, str], Any]:
    return {
        (name, stop.site): {**config, 'channels': stop.channels, 'ratio': stop.ratio}
        for name, stops in plan.items()
        for stop, config in stops
        if config is not None
    }


def _safetensors(user: str) -> Any:
    require_package('safetensors', user)
    import_module('safetensors.torch')
    return import_module('safetensors')


def _read(path: Path) -> tuple[Any, dict[str, Tensor]]:
    safetensors = _safetensors('load_upsamplers')
    if not path.is_file():
        raise FileNotFoundError(f'load_upsamplers: there is no file {path}')
    try:
        with safetensors.safe_open(path, framework='pt') as opened:
            text = (opened.metadata() or {}).get(KEY)
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no dict
    except safetensors.SafetensorError as error:
        raise ValueError(f'load_upsamplers cannot read {path} as a safetensors file: {error}') from error
    if text is None:
        raise ValueError(f'{path} has no recipe, so save_upsamplers did not write it')
    return read_recipe(text), weights
