"""Find the module that will own the upsampler of each call of ``F.interpolate``, and whether the call can have one.

The *owner* of a call is the module whose ``forward`` will be changed so that an upsampler replaces the call. A *place* is a call with its
owner.
"""

from collections import Counter
from dataclasses import replace
from typing import NamedTuple, Optional

import torch
from torch import nn

from .calls import Call, ExampleError, fits, record_calls
from .example import Example, doubled, tensors
from .routing import NAME

# These containers cannot own an upsampler, because nn.Sequential would run a new child as another layer.
CHAINS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
COMPILED = (torch.jit.ScriptModule, torch.fx.GraphModule)


class Place(NamedTuple):
    """A call of ``F.interpolate`` with its owner.

    Attributes:
        owner: The name of the owner in the model.
        name: The name of the call in the report, see :class:`~mmdysample.replacement.Site`.
        call: The call.
    """

    owner: str
    name: str
    call: Call


def find_places(model: nn.Module, example: Example) -> list[list[Place]]:
    """Return the places of a model.

    The model runs twice. The run on the example inputs finds the calls and whether their inputs depend on the weights. The run on inputs of
    twice the size finds whether they depend on the inputs of the model, and whether their ratio stays the same. If the model does not
    support that size, the second run uses the example inputs.

    Returns:
        For each owner, the places of one run of its ``forward``, in the order of the calls.

    Raises:
        ExampleError: A ValueError; the model does not run on the example.
    """
    groups = _group(model, *record_calls(model, example))
    for place in (place for group in groups for place in group):
        if not place.call.unfit and not place.call.traced:
            place.call.unfit = 'not a feature map: no trained layer comes before it'
    if any(x.is_floating_point() for x in tensors(example)):
        try:
            larger = _group(model, *record_calls(model, doubled(example), of_input=True))
        except ExampleError:  # some models support only one input size
            larger = _group(model, *record_calls(model, example, of_input=True))
        others = {place.name: place.call for group in larger for place in group}
        for place in (place for group in groups for place in group):
            place.call.unfit = place.call.unfit or _compare(place.call, others.get(place.name))
    return groups


def _compare(call: Call, other: Optional[Call]) -> str:
    """Return the reason a call cannot have an upsampler, from the same call in the second run, or an empty string."""
    if other is None:
        return 'the model does not make this call with an input of twice the size'
    if not fits(call.ratio, other.size, other.target, times=2):
        return 'the ratio changes with the size of the input'
    return '' if other.traced else 'not a feature map: it does not depend on the input, like a position embedding'


def _group(model: nn.Module, calls: list[Call], runs: Counter[str]) -> list[list[Place]]:
    modules = dict(model.named_modules())
    weightless = {name for name, module in modules.items() if next(module.parameters(), None) is None}
    chains = {name for name, module in modules.items() if isinstance(module, CHAINS)}
    by_owner: dict[str, dict[int, list[Call]]] = {}
    for call in calls:
        path = list(call.path)
        # An nn.Upsample that is used for several levels needs one upsampler for each, so the module around it owns the calls.
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
        return f'the only module around it is {type(module).__name__}, a container that cannot have upsamplers'
    if isinstance(module, COMPILED):
        return f'{type(module).__name__} runs compiled code, whose calls cannot be replaced'
    if hasattr(module, NAME):
        return f'{type(module).__name__} already has {NAME}: set its upsample_cfg instead'
    # A module that runs several times uses the same weights each time, so it can use the same upsamplers if all runs make the same calls.
    kinds = {tuple((call.channels, call.ratio, call.mode, bool(call.unfit)) for call in calls) for calls in passes}
    if len(passes) != runs or len(kinds) > 1:
        return 'its module runs several times and does not make the same calls each time'
    return ''
