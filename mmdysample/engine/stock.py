"""Replace the modules of this package in a config with the stock modules of mmdet and mmseg."""

from typing import Any

from mmengine.config import Config, ConfigDict

from mmdysample.upsamplers.builder import named_config, resolve

from .upsampler import SCOPE, upsampler_places

# The upsamplers that mmdet's FPN_CARAFE supports, with its names of them and of the arguments that it passes on (ours: theirs).
CARAFE_ARGUMENTS = ('up_kernel', 'up_group', 'encoder_kernel', 'encoder_dilation', 'compressed_channels')
FPN_CARAFE_UPSAMPLERS: dict[str, tuple[str, dict[str, str]]] = {
    'nearest': ('nearest', {}),
    'bilinear': ('bilinear', {}),
    'deconv': ('deconv', {'kernel_size': 'upsample_kernel'}),
    'pixel_shuffle': ('pixel_shuffle', {'upsample_kernel': 'upsample_kernel'}),
    'CARAFE': ('carafe', {name: name for name in CARAFE_ARGUMENTS}),
}
FPN_CARAFE_ARGUMENTS = ('in_channels', 'out_channels', 'num_outs', 'start_level', 'end_level', 'norm_cfg', 'act_cfg')


def use_stock_modules(config: Config) -> list[str]:
    """Replace the modules of this package with the stock modules that they extend.

    Args:
        config: The config of a model, changed in place.

    Returns:
        Lines for the user that name each replaced module and its stock module.

    Raises:
        ValueError: mmdet and mmseg have no module that computes the same.
    """
    lines = []
    for path, place in upsampler_places(config).items():
        name = place['type'].removeprefix(SCOPE)
        stock = _fpn(place, path) if name == 'FPN' else _mask_head(place, path) if name == 'FCNMaskHead' else _other(place, path)
        place.clear()
        place.update(ConfigDict(stock))
        lines.append(f'{path}: {stock["type"]}, upsample_cfg={dict(stock["upsample_cfg"]) if "upsample_cfg" in stock else "none"}')
    if left := sorted(_ours(config.get('model'))):
        raise ValueError(f'mmdet and mmseg have no {", ".join(left)}, so the checkpoint of {config.filename} has no stock form')
    return lines


def _fpn(place: dict[str, Any], path: str) -> dict[str, Any]:
    arguments = {key: value for key, value in place.items() if key not in ('type', 'upsample_cfg', 'fuse_extra_levels')}
    given = place.get('upsample_cfg')
    named = named_config(given)
    if not place.get('fuse_extra_levels'):
        if named and named['type'] in ('nearest', 'bilinear'):
            given = {'mode': named['type']}
        elif named:
            raise ValueError(f"{path}: mmdet's FPN supports only interpolation, not {named['type']}{_say(path)}")
        return {'type': 'FPN', **arguments, 'upsample_cfg': given or {'mode': 'nearest'}}
    if not named:
        options = dict(given or {})
        named = {'type': options.pop('mode', 'nearest'), **options}
    config, _, _ = resolve(named)
    kind = config.pop('type')
    if kind not in FPN_CARAFE_UPSAMPLERS:
        raise ValueError(f"{path}: mmdet's FPN_CARAFE supports {', '.join(FPN_CARAFE_UPSAMPLERS)}, not {kind}{_say(path)}")
    stock, names = FPN_CARAFE_UPSAMPLERS[kind]
    surplus = [key for key in config if key not in names]
    surplus += [key for key, value in arguments.items() if key not in FPN_CARAFE_ARGUMENTS and value]
    if surplus:
        raise ValueError(f"{path}: mmdet's FPN_CARAFE does not support {', '.join(surplus)}")
    kernel = {'upsample_kernel': 3} if kind in ('deconv', 'pixel_shuffle') else {}
    upsampler = {'type': stock, **kernel, **{names[key]: value for key, value in config.items()}}
    return {'type': 'FPN_CARAFE', **{key: arguments[key] for key in FPN_CARAFE_ARGUMENTS if key in arguments}, 'upsample_cfg': upsampler}


def _mask_head(place: dict[str, Any], path: str) -> dict[str, Any]:
    cfg = place.get('upsample_cfg') or {'type': 'deconv'}
    config = dict(cfg) if isinstance(cfg, dict) else {'type': cfg}
    if config['type'] in ('CARAFE', 'carafe'):
        config['type'] = 'carafe'
    elif config['type'] not in (None, 'deconv', 'nearest', 'bilinear'):
        raise ValueError(f"{path}: mmdet's FCNMaskHead supports deconv, nearest, bilinear and CARAFE, not {config['type']}")
    scale = {'scale_factor': 2} if config['type'] else {}
    return {**place, 'type': 'FCNMaskHead', 'upsample_cfg': {**scale, **config}}


def _other(place: dict[str, Any], path: str) -> dict[str, Any]:
    if named := named_config(place.get('upsample_cfg')):
        raise ValueError(f'{path}: the stock {place["type"].removeprefix(SCOPE)} supports no upsample_cfg with a type, got {named["type"]}')
    arguments = {key: value for key, value in place.items() if key != 'upsample_cfg'}
    return {**arguments, 'type': place['type'].removeprefix(SCOPE)}


def _say(path: str) -> str:
    return f'; if the checkpoint was trained with another upsampler, add --upsampler, or --cfg-options {path}...'


def _ours(node: Any) -> set[str]:
    children = list(node.values()) if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else []
    found = set().union(*map(_ours, children))
    kind = node.get('type') if isinstance(node, dict) else None
    return found | {kind} if isinstance(kind, str) and kind.startswith(SCOPE) else found
