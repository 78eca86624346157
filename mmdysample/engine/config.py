"""Read configs, with one-line messages for mistakes. A config is Python code and is trusted, as everywhere in mmengine."""

import inspect
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config
from mmengine.runner import Runner

from .errors import one_line
from .stock_upsampling import check_stock_modules

# The top-level keys that something reads: the runner's arguments, the keys that mmengine and the tools of mmdet and mmseg read, and the
# helper variables from which the configs of this repository compute other keys.
READ_BY_MMENGINE = {
    'activation_checkpointing',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'sync_bn',
}
RUNNER_KEYS = {*inspect.signature(Runner.__init__).parameters, *READ_BY_MMENGINE} - {'self', 'cfg'}
HELPER_KEYS = {'data_root', 'metainfo', 'train_pipeline', 'test_pipeline', 'shapes'}


def load_config(path: str, options: Optional[dict[str, Any]] = None) -> Config:
    """Read a config file.

    Args:
        path: The file.
        options: Changes to the config, such as ``{'model.neck.upsample_cfg.type': 'DySample+'}``.

    Returns:
        The config.

    Raises:
        ValueError: The file does not exist or cannot be read, an option does not fit it, or a stock module does not support its upsampler.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f'there is no config {path}{_suggest(file)}')
    try:
        config = Config.fromfile(path)
    except ImportError:
        raise
    except Exception as error:  # a config is Python code and can raise any exception
        raise ValueError(f'the config {path} cannot be read: {type(error).__name__}: {one_line(error)}') from error
    for key in options or {}:
        top = key.split('.')[0]
        if (top in config and top not in RUNNER_KEYS | {'shapes'}) or key == 'shapes.root':
            raise ValueError(
                f'--cfg-options {key}: {path} has used this variable already, so changing it has no effect; change what it set '
                '(e.g. train_dataloader.dataset...), or use --data-root, COCO_ROOT, ADE20K_ROOT, NYU_ROOT, NUCLEI_ROOT or SHAPES_ROOT for '
                'folders'
            )
        known = sorted({*config.keys(), *RUNNER_KEYS})
        if top not in known:
            near = get_close_matches(top, known, n=1)
            hint = f'; did you mean {near[0]}?' if near else ''
            raise ValueError(f'--cfg-options {key}: neither {path} nor the runner has a key {top!r}{hint}')
    try:
        config.merge_from_dict(options or {})
    except (KeyError, TypeError, AssertionError, IndexError, AttributeError) as error:
        raise ValueError(f'--cfg-options do not fit {path}: {one_line(error)}') from error
    if config.get('data_preprocessor') is not None and isinstance(config.get('model'), dict):
        config.model.setdefault('data_preprocessor', config.data_preprocessor)  # as mmengine does before it trains
    check_stock_modules(config)
    return config


def unknown_keys(config: Config) -> set[str]:
    """Return the top-level keys that nothing reads: leftovers of another framework's configs, or misspelt keys."""
    return set(config.keys()) - RUNNER_KEYS - HELPER_KEYS


def _suggest(file: Path) -> str:
    configs = sorted(path.as_posix() for path in Path('configs').rglob('*.py') if '_base_' not in path.parts)
    by_stem = {Path(path).stem: path for path in configs}
    near = get_close_matches(file.stem, by_stem, n=3, cutoff=0.4)
    return f'; did you mean {" or ".join(by_stem[stem] for stem in near)}?' if near else ''
