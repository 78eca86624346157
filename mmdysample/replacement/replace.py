"""Replace the upsampling of any PyTorch model by learned upsamplers.

A *site* is a call of ``F.interpolate`` as the report lists it, a *place* is the same call with the module that will own its upsampler, and
a *stop* is the call as the changed ``forward`` of that module expects it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, Optional, Union
from warnings import warn

import torch
from torch import Tensor, nn

from mmdysample.upsamplers.builder import UpsampleConfig, build_upsampler, resolve
from mmdysample.upsamplers.containers import Sequential

from .calls import ExampleError, as_it_was, run_once
from .example import Example, as_example
from .places import Place, find_places
from .recipe import CONFIG, keep_recipe, warn_if_dropped
from .report import Site, UpsampleReport
from .routing import NAME, Stop, is_routed, restore_upsample, route
from .ultralytics_yaml import check_network, write_rows

Patterns = Union[str, Iterable[str], None]


def replace_upsample(
    model: nn.Module,
    upsample_cfg: UpsampleConfig,
    example_inputs: Union[Tensor, Sequence, dict[str, Any]],
    include: Patterns = None,
    exclude: Patterns = None,
    predicate: Optional[Callable[[Site], bool]] = None,
) -> UpsampleReport:
    """Replace every upsampling of a feature map in a model by a learned upsampler, in place.

    Each call of ``nn.Upsample``, ``F.interpolate``, mmseg's ``resize`` and the like is replaced if it enlarges a feature map by an integer
    ratio. Each call gets its own upsampler, with the number of channels seen in the run. A ratio of 4 becomes two upsamplers of x2, and a
    ratio of 6 one of x2 and one of x3. If the target is not exactly as large, because the model rounded an odd size, the output gets the
    size of the target, see :func:`~mmdysample.upsamplers.fit.upsample_to`. All other weights keep their values and names. The upsamplers
    become a new child, ``upsample_modules``, of each module that interpolates.

    The function runs the model three times: on the example inputs, on inputs of twice the size, and once more with the upsamplers. Call it
    after ``model.init_weights()`` and before creating the optimizer. Exclude class maps, whose channels are classes and not features. Sites
    whose result leaves the model without passing a trained layer are probably such maps: the report marks them, and a warning names those
    that are replaced. Another warning names replaced calls with ``align_corners=True``: an upsampler places pixels as
    ``align_corners=False`` does.

    Args:
        model: Any module.
        upsample_cfg: A name, a config or a class, as in :func:`~mmdysample.build_upsampler`. It must not be a guided upsampler, because a
            call of ``F.interpolate`` has no second map.
        example_inputs: The arguments to call the model with: a tensor, a tuple or list of arguments, or a dict of keyword arguments.
        include: Names of the sites to replace, as in the report; ``*`` and ``?`` are wildcards. All other sites stay unchanged. The name
            of a module (``neck``) stands for all sites in it.
        exclude: Names of sites that stay unchanged, in the same form.
        predicate: A function of a :class:`Site`. Sites for which it returns False stay unchanged.

    Returns:
        The report, which says for each site what was done. Its ``undo()`` restores the model.

    Raises:
        ValueError: The upsampler is unknown or guided, the model does not run on the inputs, a pattern matches no site, no site can be
            replaced, or an upsampler does not run in the last run. The model is then unchanged.
        ShapeError: A ValueError that the model raises later, if it makes other calls of ``F.interpolate`` than with the example inputs.
    """
    _check_order(model, upsample_cfg, example_inputs)
    report = insert_upsamplers(model, upsample_cfg, as_example(example_inputs), include, exclude, predicate)
    final = [site.name for site in report.replaced if site.leaves]
    if final:
        warn(
            f'replace_upsample: {", ".join(final)} enlarged what the model returns, with no trained layer after it. If its channels are '
            f'classes and not features, exclude it: exclude={final}',
            stacklevel=2,
        )
    moved = [site.name for site in report.replaced if site.align_corners]
    if moved:
        warn(
            f'replace_upsample: {", ".join(moved)} interpolated with align_corners=True, and no upsampler does: features move by less than '
            'half a pixel of their map, so the outputs of a trained model change until it is trained further',
            stacklevel=2,
        )
    return report


def insert_upsamplers(
    model: nn.Module,
    upsample_cfg: UpsampleConfig,
    example: Example,
    include: Patterns = None,
    exclude: Patterns = None,
    predicate: Optional[Callable[[Site], bool]] = None,
) -> UpsampleReport:
    """Do the same as :func:`replace_upsample`, for an :class:`~mmdysample.replacement.example.Example`."""
    _check_arguments(model, include=include, exclude=exclude, predicate=predicate)
    config, cls, _ = resolve(upsample_cfg)
    if getattr(cls, 'guided', False):
        raise ValueError(
            f'{config["type"]} is guided: it needs a finer feature map as its second input, which a call of F.interpolate does not have. '
            'Use an upsampler that is not guided, or a neck or head of mmdysample, which passes that map'
        )
    if 'scale_factor' in config:
        raise ValueError(f'each call has a ratio of its own, so upsample_cfg takes no scale_factor, got {config["scale_factor"]}')
    if any(map(is_routed, model.modules())):
        raise ValueError(
            'replace_upsample has already changed this model: undo it first, with restore_upsample(model) or the undo() of its report'
        )
    warn_if_dropped(model)
    places = find_places(model, example)
    report = put_upsamplers(model, config, places, _chooser(places, include, exclude, predicate))
    _verify(model, example)
    try:
        keep_recipe(model)
        write_rows(model)
    except BaseException:
        restore_upsample(model)
        raise
    return report


def _check_order(model: Any, upsample_cfg: Any, example_inputs: Any) -> None:
    """Raise a ValueError if the arguments of :func:`replace_upsample` are in another order."""

    def is_config(value: Any) -> bool:
        return isinstance(value, (str, type)) or (isinstance(value, dict) and 'type' in value)

    swapped = ''
    if not isinstance(model, nn.Module) and any(isinstance(value, nn.Module) for value in (upsample_cfg, example_inputs)):
        swapped = 'the model'
    elif is_config(example_inputs) and not is_config(upsample_cfg):
        swapped = 'the upsampler'
    if swapped:
        kinds = ', '.join(type(value).__name__ for value in (model, upsample_cfg, example_inputs))
        raise ValueError(
            f"{swapped} is in the wrong place: the order is replace_upsample(model, 'DySample', example_inputs), got arguments of the "
            f'types {kinds}'
        )


def _check_arguments(model: nn.Module, predicate: Any, **patterns: Any) -> None:
    if not isinstance(model, nn.Module):
        raise ValueError(f'replace_upsample needs an nn.Module, got {model!r}')
    check_network(model)
    if isinstance(model, torch._dynamo.OptimizedModule):
        raise ValueError('replace_upsample got a compiled model: call it before torch.compile, on the original module')
    if predicate is not None and not callable(predicate):
        raise ValueError(f'predicate must be a function of a Site, got {predicate!r}')
    for name, value in patterns.items():
        listed = [value] if isinstance(value, str) else value or []
        if not isinstance(listed, (list, tuple, set)) or not all(isinstance(pattern, str) for pattern in listed):
            raise ValueError(f'{name} must be a name of a site, or a list of them, got {value!r}')


def _verify(model: nn.Module, example: Example) -> None:
    """Run the model once more, and remove the upsamplers again if the run fails or does not use each of them.

    Raises:
        ValueError: The run fails, or an upsampler did not run.
    """
    chains = [chain for module in model.modules() if is_routed(module) for chain in getattr(module, NAME, ())]
    idle = set(chains)
    hooks = [chain.register_forward_hook(lambda module, *_: idle.discard(module)) for chain in chains]
    try:
        with as_it_was(model):
            run_once(model, example)
        problem = f'{len(idle)} of them did not run, for example because forward is set on the instance, not in its class' if idle else ''
    except ExampleError as error:
        problem = error.why
    finally:
        for hook in hooks:
            hook.remove()
    if problem:
        restore_upsample(model)
        raise ValueError(f'{type(model).__name__} cannot use these upsamplers and was left unchanged: {problem}')


def _chooser(
    places: list[list[Place]], include: Patterns, exclude: Patterns, predicate: Optional[Callable[[Site], bool]]
) -> Callable[[Site], str]:
    """Return a function that returns, for a site, the reason the user's options exclude it, or an empty string.

    Raises:
        ValueError: A pattern matches no site.
    """
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
        return '' if predicate is None or predicate(site) else 'the predicate returned False'

    return why_not


def _matches(name: str, pattern: str) -> bool:
    return any(fnmatchcase(name, f'{pattern}{rest}') for rest in ('', ':*', '.*'))


def put_upsamplers(model: nn.Module, config: dict[str, Any], places: list[list[Place]], why_not: Callable[[Site], str]) -> UpsampleReport:
    """Build the upsamplers of all places, and then redirect the calls to them.

    Args:
        model: The model, which changes only after all upsamplers are built.
        config: The config of the upsampler.
        places: The places, as :func:`~mmdysample.replacement.places.find_places` returns them.
        why_not: A function that returns, for a site, the reason to leave it unchanged, or an empty string.

    Raises:
        ValueError: No place can have an upsampler.
    """
    modules = dict(model.named_modules())
    sites: dict[int, Site] = {}
    routes: dict[str, tuple[list[Stop], list[nn.Module]]] = {}
    for group in places:
        owner = modules[group[0].owner]
        upsamplers: dict[str, nn.Module] = {}
        for _, name, call in group:
            site = Site(
                name,
                call.channels,
                call.size,
                call.target,
                call.mode,
                reason=call.unfit,
                leaves=call.leaves,
                align_corners=call.align_corners,
            )
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
        why = '; '.join(f'{site.name}: {site.reason}{site.mark}' for site in in_order) or _what_else(model)
        raise ValueError(f'{type(model).__name__} has no call that an upsampler can replace ({why})')
    # A module inside a routed module may make calls that are not replaced. Route it without upsamplers, because its calls would otherwise
    # count as calls of the module around it.
    inside = {group[0].owner for group in places if any(name in routes for place in group for name, _ in place.call.path)}
    for name in inside:
        route(modules[name], *routes.get(name, ((), ())))
    return UpsampleReport(in_order, model)


def _what_else(model: nn.Module) -> str:
    others = [f'{name} ({type(m).__name__})' for name, m in model.named_modules() if isinstance(m, (nn.ConvTranspose2d, nn.PixelShuffle))]
    never = 'it never calls F.interpolate with the example inputs'
    if not others:
        return never
    names = ', '.join(others)
    return f'{never}, and {names} is left alone, because it may change the channels: replace it yourself by a module of build_upsampler'


def _stops(group: list[Place], with_upsampler: list[str]) -> list[Stop]:
    """Return the stops of an owner: the calls that are replaced, and the unchanged calls that could be mistaken for one of them."""
    routed = {(place.call.channels, place.call.mode) for place in group if place.name in with_upsampler}
    stops = []
    for _, name, call in group:
        if name in with_upsampler:
            stops.append(Stop(name, call.channels, call.mode, call.ratio, with_upsampler.index(name)))
        elif (call.channels, call.mode) in routed and (call.dtype is None or call.dtype.is_floating_point):
            # A call that could have been replaced has a fixed ratio. An unfit call may have another ratio in the next run, so allow any.
            stops.append(Stop(name, call.channels, call.mode, 0 if call.unfit else call.ratio, None))
    return stops


def _dtype(owner: nn.Module, model: nn.Module) -> torch.dtype:
    weights = (p.dtype for module in (owner, model) for p in module.parameters() if p.is_floating_point())
    return next(weights, torch.get_default_dtype())


def build_chain(config: dict[str, Any], channels: int, ratio: int) -> nn.Module:
    """Return an upsampler for a prime ratio, or a chain of upsamplers, one for each prime factor, for any other ratio."""
    steps = [build_upsampler(config, channels, step) for step in _prime_factors(ratio)]
    chain = steps[0] if len(steps) == 1 else Sequential(*steps)
    setattr(chain, CONFIG, dict(config))  # for the recipe of the model
    return chain


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
