"""Put learned upsamplers wherever a model upsamples, whatever the model is."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, Optional, Union

import torch
from torch import Tensor, nn

from mmdysample.upsamplers.builder import UpsampleConfig, build_upsampler, resolve
from mmdysample.upsamplers.containers import Sequential

from .calls import ExampleError, as_it_was, run_once
from .example import Example, as_example
from .places import Place, find_places
from .report import Site, UpsampleReport
from .routing import NAME, Stop, is_routed, restore_upsample, route

Patterns = Union[str, Iterable[str], None]


def replace_upsample(
    model: nn.Module,
    upsample_cfg: UpsampleConfig,
    example_inputs: Union[Tensor, Sequence, dict[str, Any]],
    include: Patterns = None,
    exclude: Patterns = None,
    predicate: Optional[Callable[[Site], bool]] = None,
) -> UpsampleReport:
    """Put a learned upsampler wherever a model upsamples a feature map, in place.

    Every ``nn.Upsample``, ``F.interpolate``, mmseg ``resize`` and the like that enlarges a map by an integer gets an upsampler of its own,
    one for each call and level, with the channels that were seen; a ratio of 4 is two of x2, one of 6 an x2 and an x3. Where a map was
    small by rounding (25 rows from 13), what is made is cropped, as in a feature pyramid. All other weights, and their names, stay as they
    are; the upsamplers are new children, ``upsample_modules``, of the modules that interpolate. To find all this, the model is run three
    times: on the example inputs, on inputs of twice the size, and once more with the upsamplers.

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
        ValueError: The upsampler is unknown or guided, the model does not run on the inputs, a pattern names nothing, no site is left, or
            an upsampler has no work in the last run. The model is then as it was.
        ShapeError: Later, where the model takes another path than with the example inputs; a ValueError.
    """
    return insert_upsamplers(model, upsample_cfg, as_example(example_inputs), include, exclude, predicate)


def insert_upsamplers(
    model: nn.Module,
    upsample_cfg: UpsampleConfig,
    example: Example,
    include: Patterns = None,
    exclude: Patterns = None,
    predicate: Optional[Callable[[Site], bool]] = None,
) -> UpsampleReport:
    """:func:`replace_upsample`, with the example inputs as arguments."""
    _check_arguments(model, include=include, exclude=exclude, predicate=predicate)
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
    places = find_places(model, example)
    report = put_upsamplers(model, config, places, _chooser(places, include, exclude, predicate))
    _verify(model, example)
    return report


def _check_arguments(model: nn.Module, predicate: Any, **patterns: Any) -> None:
    if not isinstance(model, nn.Module):
        raise ValueError(f'replace_upsample takes a module, got {model!r}')
    if isinstance(model, torch._dynamo.OptimizedModule):
        raise ValueError('replace_upsample comes before torch.compile: it takes the module that was compiled')
    if predicate is not None and not callable(predicate):
        raise ValueError(f'predicate must be a function of a Site, got {predicate!r}')
    for name, value in patterns.items():
        listed = [value] if isinstance(value, str) else value or []
        if not isinstance(listed, (list, tuple, set)) or not all(isinstance(pattern, str) for pattern in listed):
            raise ValueError(f'{name} must be a name of a site, or a list of them, got {value!r}')


def _verify(model: nn.Module, example: Example) -> None:
    """Run the model once more, and take the upsamplers out again unless each of them has work."""
    chains = [chain for module in model.modules() if is_routed(module) for chain in getattr(module, NAME, ())]
    idle = set(chains)
    hooks = [chain.register_forward_hook(lambda module, *_: idle.discard(module)) for chain in chains]
    try:
        with as_it_was(model):
            run_once(model, example)
        problem = f'{len(idle)} of them are never run, as where forward is set on the module and not in its class' if idle else ''
    except ExampleError as error:
        problem = error.why
    finally:
        for hook in hooks:
            hook.remove()
    if problem:
        restore_upsample(model)
        raise ValueError(f'{type(model).__name__} cannot have these upsamplers, and is as it was: {problem}')


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
    sites: dict[int, Site] = {}
    routes: dict[str, tuple[list[Stop], list[nn.Module]]] = {}
    for group in places:
        owner = modules[group[0].owner]
        upsamplers: dict[str, nn.Module] = {}
        for _, name, call in group:
            site = Site(name, call.channels, call.size, call.target, call.mode, reason=call.unfit)
            site = replace(site, reason=site.reason or why_not(site))
            if not site.reason:
                try:
                    upsamplers[name] = build_chain(config, call.channels, call.ratio).to(call.device, call.dtype or _dtype(owner, model))
                    upsamplers[name].train(model.training)
                except ValueError as error:
                    site = replace(site, reason=str(error))
                else:
                    count = sum(p.numel() for p in upsamplers[name].parameters())
                    site = replace(site, upsampler=_title(config, call.ratio), parameters=count)
            sites[call.order] = site
        if upsamplers:
            routes[group[0].owner] = _stops(group, list(upsamplers)), list(upsamplers.values())
    in_order = [sites[order] for order in sorted(sites)]
    if not routes:
        why = '; '.join(f'{site.name}: {site.reason}' for site in in_order) or _what_else(model)
        raise ValueError(f'{type(model).__name__} has no place for an upsampler ({why})')
    # What interpolates inside a module with routes and has none itself must not be taken for a call of that module.
    inside = {group[0].owner for group in places if any(name in routes for place in group for name, _ in place.call.path)}
    for name in inside:
        route(modules[name], *routes.get(name, ((), ())))
    return UpsampleReport(in_order, model)


def _what_else(model: nn.Module) -> str:
    others = [f'{name} ({type(m).__name__})' for name, m in model.named_modules() if isinstance(m, (nn.ConvTranspose2d, nn.PixelShuffle))]
    never = 'it never calls F.interpolate with the example inputs'
    if not others:
        return never
    return f'{never}, and {", ".join(others)} is left alone, as it changes the channels, too: put what build_upsampler makes there yourself'


def _stops(group: list[Place], with_upsampler: list[str]) -> list[Stop]:
    """The calls that are routed, and those between them that could be taken for one."""
    routed = {(place.call.channels, place.call.mode) for place in group if place.name in with_upsampler}
    stops = []
    for _, name, call in group:
        if name in with_upsampler:
            stops.append(Stop(name, call.channels, call.mode, call.ratio, with_upsampler.index(name)))
        elif (call.channels, call.mode) in routed and (call.dtype is None or call.dtype.is_floating_point):
            # Left by choice, its ratio is known; left for what it is, it may have another next time.
            stops.append(Stop(name, call.channels, call.mode, 0 if call.unfit else call.ratio, None))
    return stops


def _dtype(owner: nn.Module, model: nn.Module) -> torch.dtype:
    weights = (p.dtype for module in (owner, model) for p in module.parameters() if p.is_floating_point())
    return next(weights, torch.get_default_dtype())


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
