"""Which module owns each place where a model interpolates, and what can stand there."""

from collections import Counter
from dataclasses import replace
from typing import NamedTuple, Optional

import torch
from torch import nn

from .calls import Call, ExampleError, fits, record_calls
from .example import Example, doubled, tensors
from .routing import NAME

# nn.Sequential and the like: a new child would be run as another layer.
CHAINS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
COMPILED = (torch.jit.ScriptModule, torch.fx.GraphModule)


class Place(NamedTuple):
    """A call and where it is routed: the module that owns it, and its name as a site."""

    owner: str
    name: str
    call: Call


def find_places(model: nn.Module, example: Example) -> list[list[Place]]:
    """Find who owns each call.

    The model runs twice: as it is given, to see what depends on its weights; and on inputs of twice the size, if it can, to see what
    depends on the inputs, and which ratios change.

    Returns:
        For each owner, the calls of one run of its ``forward``, in their order.

    Raises:
        ValueError: The model does not run on the example.
    """
    groups = _group(model, *record_calls(model, example))
    for place in (place for group in groups for place in group):
        if not place.call.unfit and not place.call.traced:
            place.call.unfit = 'no feature map: nothing that is trained comes before it'
    if any(x.is_floating_point() for x in tensors(example)):
        try:
            larger = _group(model, *record_calls(model, doubled(example), of_input=True))
        except ExampleError:  # some models have one size
            larger = _group(model, *record_calls(model, example, of_input=True))
        others = {place.name: place.call for group in larger for place in group}
        for place in (place for group in groups for place in group):
            place.call.unfit = place.call.unfit or _compare(place.call, others.get(place.name))
    return groups


def _compare(call: Call, other: Optional[Call]) -> str:
    """Why a call, and the same one with other inputs, cannot have an upsampler."""
    if other is None:
        return 'with an input of twice the size, it is not made'
    if not fits(call.ratio, other.size, other.target, times=2):
        return 'the ratio changes with the size of the input'
    return '' if other.traced else 'no feature map: it does not depend on the input, as a position embedding does not'


def _group(model: nn.Module, calls: list[Call], runs: Counter[str]) -> list[list[Place]]:
    modules = dict(model.named_modules())
    weightless = {name for name, module in modules.items() if next(module.parameters(), None) is None}
    chains = {name for name, module in modules.items() if isinstance(module, CHAINS)}
    by_owner: dict[str, dict[int, list[Call]]] = {}
    for call in calls:
        path = list(call.path)
        # One nn.Upsample that serves several levels is not one layer but a piece of code: the calls are those of the module around it.
        while len(path) > 1 and (path[-1][0] in chains or (path[-1][0] in weightless and runs[path[-1][0]] > 1)):
            path.pop()
        by_owner.setdefault(path[-1][0], {}).setdefault(path[-1][1], []).append(call)
    return [_places(owner, modules[owner], list(passes.values()), runs[owner]) for owner, passes in by_owner.items()]


def _places(owner: str, module: nn.Module, passes: list[list[Call]], runs: int) -> list[Place]:
    first = passes[0]
    why_not = _why_not(module, passes, runs)
    alone = len(first) == 1 and next(module.children(), None) is None
    places = []
    for i, call in enumerate(first):
        title = call.path[-1][0] or type(module).__name__
        places.append(Place(owner, title if alone else f'{title}:{i}', replace(call, unfit=call.unfit or why_not)))
    return places


def _why_not(module: nn.Module, passes: list[list[Call]], runs: int) -> str:
    if isinstance(module, CHAINS):
        return f'nothing but {type(module).__name__} is around it, which can have no upsamplers of its own'
    if isinstance(module, COMPILED):
        return f'{type(module).__name__} runs compiled code, which cannot be routed'
    if hasattr(module, NAME):
        return f'{type(module).__name__} has {NAME} already: it takes upsample_cfg itself'
    # A module that runs more than once shares its weights between the runs, and so its upsamplers, if its runs are alike.
    kinds = {tuple((call.channels, call.ratio, call.mode, bool(call.unfit)) for call in calls) for calls in passes}
    if len(passes) != runs or len(kinds) > 1:
        return 'its module runs several times, and not each time alike'
    return ''
