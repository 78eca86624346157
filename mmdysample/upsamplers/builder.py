"""Build any upsampler by name, and infer those arguments of its constructor that the config does not give."""

import inspect
from difflib import get_close_matches
from numbers import Integral
from typing import Any, Optional, Union

from torch import nn

from .interpolation import BASELINES
from .registration import UPSAMPLERS, mmengine_registry

# mmcv's CARAFE runs on CUDA only. Ours has the same arguments and weights, and uses mmcv's operator on CUDA.
ALIASES = {'carafe': 'CARAFE'}

UpsampleConfig = Union[str, dict, type]


def list_upsamplers() -> list[str]:
    """Return the names that :func:`build_upsampler` accepts: the baselines, then all others in alphabetical order.

    A class in mmengine's root registry counts as an upsampler if it has an attribute ``guided``.
    """
    registry = mmengine_registry()
    in_mmengine = {} if registry is None else registry.module_dict
    others = {**UPSAMPLERS, **{name: cls for name, cls in in_mmengine.items() if hasattr(cls, 'guided')}}
    return [*BASELINES, *sorted(others.keys() - BASELINES.keys())]


def named_config(cfg: Optional[UpsampleConfig]) -> Optional[dict[str, Any]]:
    """Return the config of an upsampler as a dict with a ``type``.

    Args:
        cfg: A name, a config, a class or None.

    Returns:
        A config with a ``type``. None if ``cfg`` is empty or has no ``type``; in mmdet and mmseg, a config without a ``type`` holds the
        arguments of ``F.interpolate``.
    """
    if not cfg:
        return None
    config = dict(cfg) if isinstance(cfg, dict) else {'type': cfg}
    return config if 'type' in config else None


def named_config_or(mode: str, cfg: Optional[UpsampleConfig]) -> Optional[dict[str, Any]]:
    """Return :func:`named_config` for a module of mmdet or mmseg that supports only one mode of interpolation.

    Args:
        mode: The mode of ``F.interpolate`` that the module uses.
        cfg: A name, a config, a class or None.

    Returns:
        A config with a ``type``; None if the module should interpolate as before.

    Raises:
        ValueError: A config without a ``type`` is not ``dict(mode=mode)``.
    """
    named = named_config(cfg)
    if cfg and not named and cfg != dict(mode=mode):
        raise ValueError(f'upsample_cfg without a type may only be dict(mode={mode!r}) here, got {cfg}; use dict(type=...) for any other')
    return named


def build_upsampler(
    cfg: UpsampleConfig,
    channels: int,
    scale_factor: int = 2,
    guide_channels: Optional[int] = None,
    preferred: Optional[dict[str, Any]] = None,
    **stray: Any,
) -> nn.Module:
    """Build an upsampler that keeps the number of channels.

    Args:
        cfg: A name (``'DySample+'``), a config (``dict(type='DySample', groups=2)``) or a class. The arguments in the config override
            those inferred from the parameters below.
        channels: Channels ``C`` of the map.
        scale_factor: Integer upsampling ratio ``s``.
        guide_channels: Channels ``C_g`` of the guide, for a guided upsampler. The default is ``channels``.
        preferred: Defaults of the caller, which override those of the upsampler. Arguments that the upsampler does not have are ignored.
        stray: Not allowed; it exists to explain that options of the upsampler belong in ``cfg``.

    Returns:
        A module from ``(B, C, H, W)`` to ``(B, C, s*H, s*W)``. If its class has ``guided = True``, it takes the guide
        ``(B, C_g, s*H, s*W)`` as its second argument.

    Raises:
        ValueError: The name is unknown, or an argument is unknown or invalid.
    """
    if stray:
        given = {**(named_config(cfg) or {}), **stray}
        options = ', '.join(f'{name}={value.__name__ if isinstance(value, type) else repr(value)}' for name, value in given.items())
        raise ValueError(
            f'build_upsampler takes no {", ".join(stray)}; options of the upsampler belong in its config: '
            f'build_upsampler(dict({options}), {channels})'
        )
    config, cls, accepted = resolve(cfg)
    # numpy's integers would become tensors under a compiler. A value that is not an integer is left to the constructor to refuse.
    channels, scale_factor = (int(n) if isinstance(n, Integral) and not isinstance(n, bool) else n for n in (channels, scale_factor))
    inferred = _infer_arguments(cls, accepted, config, channels, scale_factor, guide_channels)
    suits = {name: value for name, value in (preferred or {}).items() if name in (accepted or ())}
    arguments = {**inferred, **suits, **config}
    kind = arguments.pop('type')
    if cls is nn.Upsample and isinstance(kind, str):
        arguments['mode'] = kind
    return cls(**arguments)


def resolve(cfg: UpsampleConfig) -> tuple[dict[str, Any], type, Optional[list[str]]]:
    """Return the class of an upsampler, with its config and the names of its arguments.

    Args:
        cfg: As in :func:`build_upsampler`.

    Returns:
        The config with its ``type``, the class, and the names of the arguments that the class takes (None if it takes any).

    Raises:
        ValueError: The name of the upsampler or of an argument is unknown.
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
    """Return the class that a name stands for, or the class itself."""
    if inspect.isclass(kind):
        return kind
    if not isinstance(kind, str):
        raise ValueError(f'an upsampler must be given as a name, a class or a config, got {kind!r}')
    cls = BASELINES.get(kind) or _find_in_mmengine(kind) or UPSAMPLERS.get(kind)
    if cls is None:
        known = list_upsamplers()
        raise ValueError(f'unknown upsampler {kind!r}{_suggest(kind, known)}; registered are {", ".join(known)}')
    if kind not in BASELINES and not hasattr(cls, 'guided'):
        raise ValueError(f'{kind!r} is not an upsampler: its class {cls.__name__} does not declare `guided` (True or False)')
    return cls


def _find_in_mmengine(name: str) -> Optional[type]:
    """Return the class that mmengine has registered under a name, or None.

    mmengine looks in the current scope first and then in the root registry, as it does for every other part of a model.
    """
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
    """Return the names of a constructor's arguments, or None if it takes ``**kwargs``."""
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
        'upsample_kernel': 3,  # of pixel_shuffle; papers compare with this size
    }
    if accepted is None:
        accepted = ['in_channels', 'scale_factor']
    return {name: value for name, value in inferred.items() if name in accepted}


def _deconv_arguments(cfg: dict, scale_factor: int) -> dict[str, int]:
    """Return the arguments of a transposed convolution whose output is exactly ``s`` times as large as its input.

    The default kernel is 3x3, the size that papers compare with, but at least as large as the stride.
    """
    kernel = cfg.get('kernel_size', max(3, scale_factor))
    stride = cfg.get('stride', scale_factor)
    padding = cfg.get('padding', (kernel - stride + 1) // 2)
    return {'kernel_size': kernel, 'stride': stride, 'padding': padding, 'output_padding': stride + 2 * padding - kernel}


def _suggest(name: str, known: list[str]) -> str:
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = [by_lower[match] for match in get_close_matches(name.lower(), by_lower, cutoff=0.5)]
    return f' (did you mean {" or ".join(map(repr, near))}?)' if near else ''
