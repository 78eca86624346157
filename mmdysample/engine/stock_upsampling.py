"""Find stock modules that are given an upsampler they do not support, and say what takes one in their place."""

from collections.abc import Iterator
from typing import Any, Optional

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmdysample.upsamplers.builder import list_upsamplers, named_config
from mmdysample.upsamplers.interpolation import BASELINES

FRAMEWORKS = ('mmdet', 'mmseg')
# The classes of this package that extend the stock class of the same name.
EXTENDED = ('FPN', 'SegformerHead', 'UPerHead', 'PixelDecoder', 'TransformerEncoderPixelDecoder', 'FCNMaskHead')
# The types of upsample_cfg that stock modules support.
SUPPORTED = {
    'FPN_CARAFE': ('nearest', 'bilinear', 'deconv', 'pixel_shuffle', 'carafe'),
    'FCNMaskHead': ('deconv', 'nearest', 'bilinear', 'carafe'),
}


def check_stock_modules(config: Config) -> None:
    """Check that no stock module is given an upsampler: FPN, for one, would pass it to ``F.interpolate`` in the first iteration.

    Raises:
        ValueError: A module is. The message names the module that takes one in its place.
    """
    for path, kind, node in _modules(config.get('model'), 'model'):
        named = named_config(node.get('upsample_cfg'))
        if not named or named['type'] is None or named['type'] in SUPPORTED.get(kind, ()):
            continue
        if remedy := _remedy(config, path, kind, node, named['type']):
            supported = (
                f'only {", ".join(SUPPORTED[kind])} as the type of upsample_cfg' if kind in SUPPORTED else 'no upsample_cfg with a type'
            )
            raise ValueError(f'the stock {kind} supports {supported}; {remedy}')


def how_to_upsample(config: Config) -> str:
    """Return how a module of the config's model is made to take an upsampler; an empty string if there is none of which this is known."""
    modules = list(_modules(config.get('model'), 'model'))
    heads = [_options(path, kind) for path, kind, _ in modules if kind in (*EXTENDED[:-1], 'FPN_CARAFE')]
    if heads:
        return f'add --cfg-options {" ".join(heads)}'
    necks = [(path, kind) for path, kind, node in modules if 'neck' in path.split('.')[-2:] and not _is_ours(node)]
    return _wrap(*necks[0]) if necks else ''


def _remedy(config: Config, path: str, kind: str, node: dict[str, Any], upsampler: Any) -> Optional[str]:
    """Return what to do about an upsampler that a module does not support; None if the module is no stock one and may support it."""
    if kind in (*EXTENDED, 'FPN_CARAFE'):
        return f'add {_options(path, kind)}'
    cls = _class_of(config, node['type'])
    if cls is None or cls.__module__.split('.')[0] not in FRAMEWORKS:
        return None
    # The type may be one of the module's own, such as InterpConv in UNet; necks have none.
    ours = not isinstance(upsampler, str) or upsampler in set(list_upsamplers()) - set(BASELINES)
    return _wrap(path, kind) if ours or '.necks' in cls.__module__ else None


def _options(path: str, kind: str) -> str:
    if kind == 'FPN_CARAFE':
        return f'{path}.type=mmdysample.FPN {path}.fuse_extra_levels=True'
    return f'{path}.type=mmdysample.{kind}'


def _wrap(path: str, kind: str) -> str:
    name = next(part for part in reversed(path.split('.')) if not part.isdecimal())
    return (
        f"wrap it in a config file of your own, {path}: {name}=dict(_delete_=True, type='mmdysample.Upsampled', "
        f"module=dict(type='{kind}', ...), upsample_cfg=dict(type='DySample'))"
    )


def _modules(node: Any, path: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the configs of modules that are none of this package's, with their paths and the names of their classes without a scope."""
    if isinstance(node, dict) and node.get('type') is not None and not _is_ours(node):
        yield path, _name(node['type']).split('.')[-1], node
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, child in children:
        yield from _modules(child, f'{path}.{key}')


def _is_ours(node: dict[str, Any]) -> bool:
    kind = node.get('type')
    return (kind if isinstance(kind, str) else getattr(kind, '__module__', '')).startswith('mmdysample')


def _name(kind: Any) -> str:
    return kind if isinstance(kind, str) else getattr(kind, '__name__', '')


def _class_of(config: Config, kind: Any) -> Optional[type]:
    if not isinstance(kind, str):
        return kind
    with DefaultScope.overwrite_default_scope(config.get('default_scope')), MODELS.switch_scope_and_registry(None) as registry:
        return registry.get(kind)
