"""Find the module that will own the upsampler of each call of ``F.interpolate``, and whether the call can have one.

The *owner* of a call is the module whose ``forward`` will be changed so that an upsampler replaces the call. A *place* is a call with its
owner.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple, Optional

import torch
from torch import nn

from mmdysample.upsamplers.fit import fits

from .calls import Call, ExampleError, record_calls
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
    twice the size finds whether they depend on the inputs of the model, whether their ratio stays the same, and whether their results leave
    the model. It also decides about calls whose maps are too small in the first run. If the model does not support that size, the second
    run uses the example inputs.

    Returns:
        For each owner, the places of one run of its ``forward``, in the order of the calls.

    Raises:
        ExampleError: A ValueError; the model does not run on the example.
    """
    groups = _group(model, *record_calls(model, example))
    calls = {place.name: place.call for group in groups for place in group}
    for call in calls.values():
        if (not call.unfit or call.by_size) and not call.traced:
            call.unfit, call.by_size = 'not a feature map: no trained layer comes before it', False
    if any(x.is_floating_point() for x in tensors(example)):
        try:
            larger = _group(model, *record_calls(model, doubled(example), of_input=True))
        except ExampleError:  # some models support only one input size
            larger = _group(model, *record_calls(model, example, of_input=True))
        several = len(tensors(example)) > 1
        others = {place.name: place.call for group in larger for place in group}
        for name, call in calls.items():
            if not call.unfit or call.by_size:
                _compare(call, others.get(name), several)
    return groups


def _compare(call: Call, other: Optional[Call], several: bool) -> None:
    """Decide whether a call can have an upsampler, and of which ratio, from the same call in the second run."""
    if other is None:
        call.unfit = call.unfit or 'the model does not make this call with an input of twice the size'
        return
    # Rounding changes the ratio less at the larger size. 3 rows from 1 are x3 or a rounded x2; 6 from 3 are x2.
    ratio = other.ratio if fits(other.ratio, call.size, call.target) else call.ratio
    if (call.unfit and other.unfit) or ratio < 2:
        call.unfit = call.unfit or other.unfit
    elif other.factor == call.factor and call.factor is not None and not _is_integer(call.factor):
        call.unfit = f'its scale_factor {call.factor} is not an integer'
    elif (other.unfit and not other.by_size) or not _keeps(ratio, call, other, several):
        call.unfit = call.unfit or 'the ratio changes with the size of the input'
    else:
        call.unfit = '' if other.traced else 'not a feature map: it does not depend on the input, like a position embedding'
        call.ratio, call.leaves = ratio, not call.unfit and other.leaves


def _keeps(ratio: int, call: Call, other: Call, several: bool) -> bool:
    """Return True if a call has the same ratio in both runs."""
    for have, want, have_now, want_now in zip(call.size, call.target, other.size, other.target):
        # What the first run had to round is doubled if the map and its target come from two inputs. Otherwise it is the ratio that is not
        # an integer.
        doubled = several and want_now - ratio * have_now == 2 * (want - ratio * have)
        pooled = have_now == have and want_now != want  # to a fixed size
        if pooled or not (doubled or fits(ratio, (have_now,), (want_now,))):
            return False
    return True


def _is_integer(factor: Any) -> bool:
    return all(f == int(f) for f in (factor if isinstance(factor, (list, tuple)) else (factor,)))


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
        if why_not and (call.by_size or not call.unfit):
            call = replace(call, unfit=why_not, by_size=False)
        elif not why_not:
            call = _merge([calls[i] for calls in passes])
        places.append(Place(owner, title if alone else f'{title}:{i}', call))
    return places


def _merge(calls: list[Call]) -> Call:
    """Return the first of the calls that a module makes at one place, one in each of its runs, with what the others show."""
    largest = _largest(calls)
    return replace(calls[0], ratio=largest.ratio, unfit=largest.unfit, by_size=largest.by_size, leaves=any(call.leaves for call in calls))


def _largest(calls: Iterable[Call]) -> Call:
    return max(calls, key=lambda call: call.target)


def _why_not(module: nn.Module, passes: list[list[Call]], runs: int) -> str:
    if isinstance(module, CHAINS):
        return f'the only module around it is {type(module).__name__}, a container that cannot have upsamplers'
    if isinstance(module, COMPILED):
        return f'{type(module).__name__} runs compiled code, whose calls cannot be replaced'
    if hasattr(module, NAME):
        return f'{type(module).__name__} already has {NAME}: set its upsample_cfg instead'
    # A module that runs several times uses the same weights each time, so it can use the same upsamplers if all runs make the same calls.
    if len(passes) != runs or len({len(calls) for calls in passes}) > 1 or not all(map(_alike, zip(*passes))):
        return 'its module runs several times and does not make the same calls each time'
    return ''


def _alike(calls: tuple[Call, ...]) -> bool:
    """Return True if the calls can share an upsampler, or if none of them can have one."""
    if len({(call.channels, call.mode, '' if call.by_size else call.unfit) for call in calls}) > 1:
        return False
    largest = _largest(calls)
    return all(fits(largest.ratio, call.size, call.target) for call in calls) if largest.ratio else all(call.unfit for call in calls)
