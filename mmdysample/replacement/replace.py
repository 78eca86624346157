"""Put learned upsamplers wherever a model upsamples, whatever the model is."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, Optional, Union

import torch
from mmengine.model import Sequential
from torch import Tensor, nn

from mmdysample.upsamplers.builder import UpsampleConfig, build_upsampler, resolve

from .calls import Arguments, Call, as_arguments, record_calls
from .report import Site, UpsampleReport
from .routing import Stop, is_routed, route

Patterns = Union[str, Iterable[str], None]


class Place(NamedTuple):
    """A call and where it is routed: the module that owns it, and its name as a site."""

    owner: str
    name: str
    call: Call


def replace_upsample(
    model: nn.Module,
    upsample_cfg: UpsampleConfig,
    example_inputs: Union[Tensor, Sequence, dict[str, Any]],
    include: Patterns = None,
    exclude: Patterns = None,
    predicate: Optional[Callable[[Site], bool]] = None,
) -> UpsampleReport:
    """Put a learned upsampler wherever a model upsamples a feature map, in place.

    The model is run once. Every ``nn.Upsample``, ``F.interpolate``, mmseg ``resize`` and the like that enlarges a map by an integer gets an
    upsampler of its own, one for each call and level, with the channels that were seen; a ratio of 4 is two of x2, one of 6 an x2 and an
    x3. All other weights, and their names, stay as they are; the upsamplers are new children, ``upsample_modules``, of the modules that
    interpolate. What was small by rounding (25 rows from 13) is cropped, as in a feature pyramid.

    Call it before the optimizer takes the model's parameters, and after ``model.init_weights()``. Leave out what are no features: maps
    whose channels are classes.

    Args:
        model: Any module.
        upsample_cfg: A name, a config or a class, as in :func:`~mmdysample.build_upsampler`. A guided upsampler does not do: a call that
            interpolates has no second map.
        example_inputs: What the model is called with: a tensor, a tuple or list of arguments, or a dict of keyword arguments.
        include: Names of sites as in the report, with ``*`` and ``?``: all others are left as they are. A name that stops at a module
            (``neck``) stands for all in it.
        exclude: Likewise: these are left as they are.
        predicate: Asked for each site; where it says no, all is left as it is.

    Returns:
        What was done at each site; printed, a table. Its ``undo()`` takes everything back.

    Raises:
        ValueError: The upsampler is unknown or guided, the model does not run on the inputs, a pattern names nothing, or no site is left.
            The model is then as it was.
    """
    return insert_upsamplers(model, upsample_cfg, [as_arguments(example_inputs)], include, exclude, predicate)


def insert_upsamplers(
    model: nn.Module,
    upsample_cfg: UpsampleConfig,
    examples: list[Arguments],
    include: Patterns = None,
    exclude: Patterns = None,
    predicate: Optional[Callable[[Site], bool]] = None,
) -> UpsampleReport:
    """:func:`replace_upsample`, with several example inputs: where they do not agree in a ratio, all is left as it is."""
    config, cls, _ = resolve(upsample_cfg)
    if getattr(cls, 'guided', False):
        raise ValueError(
            f'{config["type"]} is guided: it needs the finer map that its result will be joined with, which a call that interpolates has '
            'not. Take one that is not guided, or a neck or head of mmdysample, which hands that map over'
        )
    if 'scale_factor' in config:
        raise ValueError(f'each call has a ratio of its own, so upsample_cfg takes no scale_factor, got {config["scale_factor"]}')
    if any(map(is_routed, model.modules())):
        raise ValueError('replace_upsample was here before: take it back with restore_upsample(model) or the undo() of its report')
    places = find_places(model, examples)
    return put_upsamplers(model, config, places, _chooser(places, include, exclude, predicate))


def find_places(model: nn.Module, examples: list[Arguments]) -> list[list[Place]]:
    """Find who owns each call.

    Returns:
        For each owner, the calls of one run of its ``forward``, in their order.
    """
    first, *others = (_find_places(model, *arguments) for arguments in examples)
    for other in others:
        ratios = {place.name: place.call.ratio for group in other for place in group}
        for group in first:
            for place in group:
                if not place.call.unfit and ratios.get(place.name) != place.call.ratio:
                    place.call.unfit = 'the ratio changes with the size of the input'
    return first


def _find_places(model: nn.Module, args: tuple, kwargs: dict[str, Any]) -> list[list[Place]]:
    calls, runs = record_calls(model, args, kwargs)
    modules = dict(model.named_modules())
    weightless = {name for name, module in modules.items() if next(module.parameters(), None) is None}
    chains = {name for name, module in modules.items() if isinstance(module, nn.Sequential)}
    by_owner: dict[str, dict[int, list[Call]]] = {}
    for call in calls:
        path = list(call.path)
        # One nn.Upsample that serves several levels is not one layer but a piece of code: the calls are those of the module around it.
        # And a Sequential would run a new child as its last layer.
        while len(path) > 1 and (path[-1][0] in chains or (path[-1][0] in weightless and runs[path[-1][0]] > 1)):
            path.pop()
        if path[-1][0] in chains:
            call.unfit = call.unfit or 'nothing but a Sequential is around it, which can have no upsamplers of its own'
        by_owner.setdefault(path[-1][0], {}).setdefault(path[-1][1], []).append(call)
    return [_places(owner, modules[owner], list(passes.values())) for owner, passes in by_owner.items()]


def _places(owner: str, module: nn.Module, passes: list[list[Call]]) -> list[Place]:
    first = passes[0]
    # A module that runs more than once shares its weights between the runs, and so its upsamplers, if its runs are alike.
    alike = all([_kind(call) for call in calls] == [_kind(call) for call in first] for calls in passes)
    places = []
    for i, call in enumerate(first):
        inner = call.path[-1][0]
        title = inner or type(module).__name__
        alone = len(first) == 1 and next(module.children(), None) is None
        if not alike and not call.unfit:
            call = replace(call, unfit='the module that interpolates runs several times, with maps of different kinds')
        places.append(Place(owner, title if alone else f'{title}:{i}', call))
    return places


def _kind(call: Call) -> tuple[int, int, bool]:
    return call.channels, call.ratio, bool(call.unfit)


def _chooser(
    places: list[list[Place]], include: Patterns, exclude: Patterns, predicate: Optional[Callable[[Site], bool]]
) -> Callable[[Site], str]:
    """A function from a site to why the user leaves it out, or to nothing."""
    names = [place.name for group in places for place in group]
    chosen, unwanted = ([patterns] if isinstance(patterns, str) else list(patterns or ()) for patterns in (include, exclude))
    for argument, patterns in (('include', chosen), ('exclude', unwanted)):
        for pattern in patterns:
            if not any(_matches(name, pattern) for name in names):
                raise ValueError(f'{argument}: no site is called {pattern!r}; there are {", ".join(names) or "none"}')

    def why_not(site: Site) -> str:
        if chosen and not any(_matches(site.name, pattern) for pattern in chosen):
            return 'not in include'
        if any(_matches(site.name, pattern) for pattern in unwanted):
            return 'in exclude'
        return '' if predicate is None or predicate(site) else 'the predicate said no'

    return why_not


def _matches(name: str, pattern: str) -> bool:
    return any(fnmatchcase(name, f'{pattern}{rest}') for rest in ('', ':*', '.*'))


def put_upsamplers(model: nn.Module, config: dict[str, Any], places: list[list[Place]], why_not: Callable[[Site], str]) -> UpsampleReport:
    """Build the upsamplers of all places, and route the calls to them once all are built."""
    modules = dict(model.named_modules())
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    sites: dict[int, Site] = {}
    routes: dict[str, tuple[list[Stop], list[nn.Module]]] = {}
    for group in places:
        stops: list[Stop] = []
        upsamplers: list[nn.Module] = []
        for _, name, call in group:
            site = Site(name, call.channels, call.size, call.target, call.mode, reason=call.unfit)
            if site.reason:
                sites[call.order] = site
                continue
            site = replace(site, reason=why_not(site))
            if not site.reason:
                try:
                    upsampler = build_chain(config, call.channels, call.ratio).to(call.device, dtype).train(model.training)
                except ValueError as error:
                    site = replace(site, reason=str(error))
                else:
                    upsamplers.append(upsampler)
                    count = sum(p.numel() for p in upsampler.parameters())
                    site = replace(site, upsampler=_title(config, call.ratio), parameters=count)
            sites[call.order] = site
            stops.append(Stop(name, call.channels, call.ratio, len(upsamplers) - 1 if site.upsampler else None))
        if upsamplers:
            routes[group[0].owner] = stops, upsamplers
    in_order = [sites[order] for order in sorted(sites)]
    if not routes:
        why = '; '.join(f'{site.name}: {site.reason}' for site in in_order) or 'it never calls F.interpolate with the example inputs'
        raise ValueError(f'{type(model).__name__} has no place for an upsampler ({why})')
    # What interpolates inside a module with routes and has none itself must not be taken for a call of that module.
    inside = {group[0].owner for group in places if any(name in routes for place in group for name, _ in place.call.path)}
    for owner in inside:
        route(modules[owner], *routes.get(owner, ((), ())))
    return UpsampleReport(in_order, model)


def build_chain(config: dict[str, Any], channels: int, ratio: int) -> nn.Module:
    """Build an upsampler of a ratio, as a chain of its prime factors."""
    steps = [build_upsampler(config, channels, step) for step in _prime_factors(ratio)]
    return steps[0] if len(steps) == 1 else Sequential(*steps)


def _prime_factors(number: int) -> list[int]:
    factors, factor = [], 2
    while number > 1:
        while number % factor == 0:
            factors.append(factor)
            number //= factor
        factor += 1
    return factors


def _title(config: dict[str, Any], ratio: int) -> str:
    kind = config['type']
    steps = ' '.join(f'x{step}' for step in _prime_factors(ratio))
    return f'{kind if isinstance(kind, str) else kind.__name__} {steps}'
