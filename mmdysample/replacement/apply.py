"""Put the upsamplers of a recipe into a model, without running the model."""

from typing import Any, NamedTuple, Optional

import torch
from torch import nn

from mmdysample.upsamplers.builder import resolve

from .places import CHAINS, COMPILED
from .recipe import Plan, keep_recipe, parse_recipe, unwrapped, upsample_recipe
from .replace import build_chain
from .routing import NAME, Stop, is_routed, route
from .ultralytics_yaml import write_rows


def apply_upsample(model: nn.Module, recipe: dict[str, Any]) -> nn.Module:
    """Put the same upsamplers into a model as into the model of a recipe, in place.

    The model does not run, and the function needs no example inputs. It works in the constructor of a model, on the ``meta`` device and
    before ``load_state_dict``. Each upsampler gets the device and the dtype of the module that owns it.

    Args:
        model: A model of the same architecture, without upsamplers.
        recipe: ``report.recipe`` of :func:`~mmdysample.replace_upsample`, or :func:`~mmdysample.upsample_recipe`.

    Returns:
        The same model. The upsamplers have their initial weights.

    Raises:
        ValueError: The recipe is broken or of a newer format, an upsampler is unknown, the model lacks a module of the recipe, or it is
            already replaced. The model is then unchanged.
    """
    put(unwrapped(model), build(model, parse_recipe(recipe)))
    return model


class Build(NamedTuple):
    """What a module gets: its stops, and its upsamplers, which are not in the model yet."""

    stops: list[Stop]
    upsamplers: list[nn.Module]


def build(model: nn.Module, plan: Plan) -> dict[str, Build]:
    """Return the stops and new upsamplers of each module in a plan, without changing the model.

    Raises:
        ValueError: See :func:`apply_upsample`.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f'apply_upsample needs an nn.Module, got {model!r}')
    if isinstance(model, (torch._dynamo.OptimizedModule, nn.parallel.DistributedDataParallel)):
        raise ValueError('apply_upsample got a compiled or distributed model: call it before torch.compile and DDP, on the original module')
    model = unwrapped(model)
    modules = dict(model.named_modules(remove_duplicate=False))
    if any(map(is_routed, modules.values())):
        raise ValueError('the model already has upsamplers of replace_upsample: undo it first, with restore_upsample(model)')
    missing = [name for name in plan if name not in modules]
    if missing:
        raise ValueError(
            f'the recipe belongs to another model: {type(model).__name__} has no module {missing[0]!r}'
            + (f' ({len(missing) - 1} more are missing)' if missing[1:] else '')
        )
    built = {}
    for name, stops in plan.items():
        owner = modules[name]
        if any(config for _, config in stops) and (isinstance(owner, (*CHAINS, *COMPILED)) or hasattr(owner, NAME)):
            raise ValueError(f'the recipe belongs to another model: {name!r} is {type(owner).__name__}, which cannot own these upsamplers')
        upsamplers = [
            make_upsampler(config, stop, *_place(model, name)).train(model.training) for stop, config in stops if config is not None
        ]
        built[name] = Build([stop for stop, _ in stops], upsamplers)
    return built


def make_upsampler(config: dict[str, Any], stop: Stop, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Build the upsampler of a stop.

    Raises:
        ValueError: The upsampler is unknown or guided, or does not fit the channels or the ratio.
    """
    try:
        if getattr(resolve(config)[1], 'guided', False):
            raise ValueError(f'{config["type"]} is guided, but a call of F.interpolate has no second map')
        with torch.device(device):
            return build_chain(config, stop.channels, stop.ratio).to(device, dtype)
    except ValueError as error:
        raise ValueError(f'the upsampler of {stop.site} in the recipe cannot be built: {error}') from error


def renewed(old: nn.Module, stop: Stop, config: dict[str, Any], device: torch.device) -> nn.Module:
    """Return an upsampler like one of a model, newly built on a device, with the dtype, mode and ``requires_grad`` of the old one."""
    dtype = next((p.dtype for p in old.parameters() if p.is_floating_point()), torch.get_default_dtype())
    new = make_upsampler(config, stop, device, dtype).train(old.training)
    asked = {name: p.requires_grad for name, p in old.named_parameters()}
    for name, p in new.named_parameters():
        p.requires_grad_(asked.get(name, True))
    return new


def renew_upsamplers(model: nn.Module) -> None:
    """Build the upsamplers of a replaced model again, with the same weights but with correct buffers."""
    for name, stops in parse_recipe(upsample_recipe(model)).items():
        upsamplers: Any = getattr(model.get_submodule(name), NAME, ())
        for stop, config in stops:
            if config is not None and stop.upsampler is not None:
                old = upsamplers[stop.upsampler]
                new = renewed(old, stop, config, next(iter(old.state_dict().values()), torch.empty(0)).device)
                # Without what a buffer that is not in a checkpoint adds to the state dict.
                new.load_state_dict({key: value for key, value in old.state_dict().items() if key in new.state_dict()})
                upsamplers[stop.upsampler] = new


def put(model: nn.Module, built: dict[str, Build]) -> None:
    """Put upsamplers into a model, and redirect its calls to them."""
    modules = dict(model.named_modules(remove_duplicate=False))
    for name, (stops, upsamplers) in built.items():
        route(modules[name], stops, upsamplers)
    keep_recipe(model)
    write_rows(model)


def _place(model: nn.Module, name: str) -> tuple[torch.device, torch.dtype]:
    """Return the device and dtype of the first weight in a module, or else in the nearest module around it that has weights."""
    around: Optional[str] = name
    while around is not None:
        for weight in model.get_submodule(around).parameters():
            if weight.is_floating_point():
                return weight.device, weight.dtype
        around = around.rpartition('.')[0] if around else None
    return torch.empty(0).device, torch.get_default_dtype()
