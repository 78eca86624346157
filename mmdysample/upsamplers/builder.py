"""Build any upsampler by name, whatever its constructor's arguments are called."""

import inspect
from difflib import get_close_matches
from typing import Any, Optional, Union

from torch import nn

from .interpolation import BASELINES
from .registration import UPSAMPLERS, mmengine_registry

# mmcv's module runs on CUDA only; ours has the same arguments and weights, and uses mmcv's operator on CUDA.
ALIASES = {'carafe': 'CARAFE'}

UpsampleConfig = Union[str, dict, type]


def list_upsamplers() -> list[str]:
    """Return the names that :func:`build_upsampler` takes: the baselines, then all others in alphabetical order.

    A class in mmengine's root registry that declares ``guided`` counts as an upsampler.
    """
    registry = mmengine_registry()
    in_mmengine = {} if registry is None else registry.module_dict
    others = {**UPSAMPLERS, **{name: cls for name, cls in in_mmengine.items() if hasattr(cls, 'guided')}}
    return [*BASELINES, *sorted(others.keys() - BASELINES.keys())]


def named_config(cfg: Optional[UpsampleConfig]) -> Optional[dict[str, Any]]:
    """Bring the config of an upsampler to one form.

    Args:
        cfg: A name, a config, a class or nothing.

    Returns:
        A config with a ``type``; None for a config without one, which in the stock modules holds the arguments of ``F.interpolate``.
    """
    if not cfg:
        return None
    config = dict(cfg) if isinstance(cfg, dict) else {'type': cfg}
    return config if 'type' in config else None


def named_config_or(mode: str, cfg: Optional[UpsampleConfig]) -> Optional[dict[str, Any]]:
    """:func:`named_config` for a stock module that knows one interpolation alone.

    Args:
        mode: The mode of ``F.interpolate`` that the stock module uses.
        cfg: A name, a config, a class or nothing.

    Returns:
        A config with a ``type``; None for the stock module.

    Raises:
        ValueError: A config without a type asks for anything but that mode.
    """
    named = named_config(cfg)
    if cfg and not named and cfg != dict(mode=mode):
        raise ValueError(f'upsample_cfg without a type may only be dict(mode={mode!r}) here, got {cfg}; say dict(type=...) for any other')
    return named


def build_upsampler(
    cfg: UpsampleConfig,
    channels: int,
    scale_factor: int = 2,
    guide_channels: Optional[int] = None,
    preferred: Optional[dict[str, Any]] = None,
) -> nn.Module:
    """Build an upsampler that keeps the number of channels.

    Args:
        cfg: A name (``'DySample+'``), a config (``dict(type='DySample', groups=2)``) or a class. What the config says wins over what
            is inferred from the other arguments.
        channels: Channels ``C`` of the map.
        scale_factor: Integer upsampling ratio ``s``.
        guide_channels: Channels of the guide, for a guided upsampler; by default those of the map.
        preferred: Arguments that suit the place of the upsampler better than their defaults, for an upsampler that has them.

    Returns:
        A module from ``(B, C, H, W)`` to ``(B, C, s*H, s*W)``; one whose class says ``guided = True`` takes the guide
        ``(B, C_g, s*H, s*W)`` as its second argument.

    Raises:
        ValueError: The name is unknown, or an argument is unknown or out of its range.
    """
    config, cls, accepted = resolve(cfg)
    inferred = _infer_arguments(cls, accepted, config, channels, scale_factor, guide_channels)
    suits = {name: value for name, value in (preferred or {}).items() if name in (accepted or ())}
    arguments = {**inferred, **suits, **config}
    kind = arguments.pop('type')
    if cls is nn.Upsample and isinstance(kind, str):
        arguments['mode'] = kind
    return cls(**arguments)


def resolve(cfg: UpsampleConfig) -> tuple[dict[str, Any], type, Optional[list[str]]]:
    """Find the class of an upsampler.

    Args:
        cfg: As in :func:`build_upsampler`.

    Returns:
        The config with its ``type``, the class, and the names of the arguments that it takes (None for any).

    Raises:
        ValueError: The name or the name of an argument is unknown.
    """
    config = named_config(cfg)
    if config is None:
        raise ValueError(f"an upsampler's config needs a type, one of {', '.join(list_upsamplers())}, got {cfg}")
    if isinstance(config['type'], str):
        config['type'] = ALIASES.get(config['type'], config['type'])
    cls = _find_class(config['type'])
    accepted = _parameters(cls)
    for name in config.keys() - {'type'}:
        if accepted is not None and name not in accepted:
            raise ValueError(f'{config["type"]} takes no argument {name!r}{_suggest(name, accepted)}; it takes {", ".join(accepted)}')
    return config, cls, accepted


def _find_class(kind: Union[str, type]) -> type:
    """Find the class of a name."""
    if inspect.isclass(kind):
        return kind
    if not isinstance(kind, str):
        raise ValueError(f'an upsampler is given by its name, its class or a config, got {kind!r}')
    cls = BASELINES.get(kind) or _find_in_mmengine(kind) or UPSAMPLERS.get(kind)
    if cls is None:
        known = list_upsamplers()
        raise ValueError(f'unknown upsampler {kind!r}{_suggest(kind, known)}; registered are {", ".join(known)}')
    if kind not in BASELINES and not hasattr(cls, 'guided'):
        raise ValueError(f'{kind!r} is no upsampler: its class {cls.__name__} does not declare `guided` (True or False)')
    return cls


def _find_in_mmengine(name: str) -> Optional[type]:
    """Return the class that mmengine knows under a name, in the current scope or else in the root, as for every other part of a model."""
    registry = mmengine_registry()
    if registry is None:
        return None
    try:
        with registry.switch_scope_and_registry(None) as scoped:
            cls = scoped.get(name)
    except (RuntimeError, TypeError):  # raised for an unknown name, by some versions of mmengine
        return None
    return cls if inspect.isclass(cls) else None


def _parameters(cls: type) -> Optional[list[str]]:
    """Names of a constructor's arguments; None where it takes any."""
    parameters = inspect.signature(cls).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return [p.name for p in parameters]


def _infer_arguments(
    cls: type, accepted: Optional[list[str]], cfg: dict, channels: int, scale_factor: int, guide_channels: Optional[int]
) -> dict[str, Any]:
    if cls is nn.Upsample:
        return {'scale_factor': scale_factor}
    if issubclass(cls, nn.ConvTranspose2d):
        return {'in_channels': channels, 'out_channels': channels, **_deconv_arguments(cfg, scale_factor)}
    inferred = {
        'in_channels': channels,
        'channels': channels,
        'out_channels': channels,
        'guide_channels': channels if guide_channels is None else guide_channels,
        'scale_factor': scale_factor,
        'upsample_kernel': 3,  # pixel_shuffle, as in the tables of the field
    }
    if accepted is None:
        accepted = ['in_channels', 'scale_factor']
    return {name: value for name, value in inferred.items() if name in accepted}


def _deconv_arguments(cfg: dict, scale_factor: int) -> dict[str, int]:
    """A 3x3 kernel as in the tables of the field (no smaller than the stride), padded so that the output is exactly s times as large."""
    kernel = cfg.get('kernel_size', max(3, scale_factor))
    stride = cfg.get('stride', scale_factor)
    padding = cfg.get('padding', (kernel - stride + 1) // 2)
    return {'kernel_size': kernel, 'stride': stride, 'padding': padding, 'output_padding': stride + 2 * padding - kernel}


def _suggest(name: str, known: list[str]) -> str:
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = [by_lower[match] for match in get_close_matches(name.lower(), by_lower, cutoff=0.5)]
    return f' (did you mean {" or ".join(map(repr, near))}?)' if near else ''
