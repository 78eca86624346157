"""Check the pretrained weights that a config names in ``init_cfg``, before they are loaded and while they are."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Optional

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper
from torch import nn

from mmdysample.terminal.text import short

from .checkpoint import find_weights, how_to_save, read_checkpoint
from .fit import Shapes, fitting_prefix, shapes_of
from .packaged_weights import SOURCES

KINDS = ('Pretrained', 'PretrainedInit', 'Pretrained_Part')
PATHS = ('pretrained', 'teacher_ckpt')  # arguments of modules of mmdet and mmseg that are files of weights
# Weights that files of classifiers lack: of norms that a backbone of mmdet or mmseg adds to its outputs, and of deformable convolutions.
EXPECTED = re.compile(r'norm\d+\.\w+|.*\.conv_offset\.\w+')


class Weights(NamedTuple):
    """A file of weights that a config names."""

    place: str  # in the config, such as 'model.backbone.init_cfg'
    path: str  # a file or a URL
    prefix: Optional[str]  # of the names of the weights that are used


def check_pretrained(config: Config) -> None:
    """Check that the files of pretrained weights which a config names are undamaged, and are loaded without running code.

    Args:
        config: The config. URLs are not checked; :func:`checked_loading` checks what the loader makes of them.

    Raises:
        ValueError: A file is missing, damaged, unsafe, or holds no weights or none with the prefix.
    """
    for place, path, prefix in pretrained_weights(config.get('model'), 'model'):
        if '://' in path:
            continue
        try:
            content = read_checkpoint(path)
        except ValueError as error:
            raise ValueError(f'{place}: {error}{_remedy(Path(path), place)}') from error
        if not find_weights(content):
            raise ValueError(f'{place}: {path} holds no weights')
        state = content.get('state_dict', content)
        if prefix and not any(str(name).startswith(_dotted(prefix)) for name in state):
            raise ValueError(f'{place}: {path} holds no weights whose names begin with {_dotted(prefix)}; {_found(path, state)}')


def _remedy(path: Path, place: str) -> str:
    """Return what to do about a file that is missing; an empty string if it exists."""
    if path.expanduser().exists():
        return ''
    written = f'; python tools/pretrained.py {path.stem} --out {path} writes it' if path.stem in SOURCES else ''
    return f'{written}; train without it with --cfg-options {place}=None'


def pretrained_weights(node: Any, place: str) -> Iterator[Weights]:
    """Yield the files of weights that a part of a config names, each with its place."""
    if isinstance(node, dict):
        if _is_pretrained(node) and isinstance(node.get('checkpoint'), str):
            yield Weights(place, node['checkpoint'], node.get('prefix'))
        for key in PATHS:
            if isinstance(node.get(key), str):
                yield Weights(f'{place}.{key}', node[key], None)
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for name, child in children:
        yield from pretrained_weights(child, f'{place}.{name}')


@contextmanager
def checked_loading(model: nn.Module) -> Iterator[None]:
    """Check the pretrained weights that ``model.init_weights()`` loads within this context.

    mmengine loads those weights whose names and shapes match and goes on, even if there are none. A line is printed if some are missing.

    Raises:
        ValueError: A file holds less than half of the weights of the module that names it. The message names the prefix that fits.
    """
    inner: Any = model.module if is_model_wrapper(model) else model
    watches = [
        Watch(f'model.{name}' if name else 'model', module, where, init)
        for name, module in inner.named_modules()
        for where, init in _init_cfgs(getattr(module, 'init_cfg', None))
    ]
    hooks = [watch.module.register_load_state_dict_pre_hook(watch) for watch in watches]
    try:
        yield
    except AssertionError as error:
        prefix = re.fullmatch(r'(\S+) is not in the pretrained model', str(error))
        if prefix is None:
            raise
        paths = dict.fromkeys(watch.path for watch in watches if _dotted(watch.init.get('prefix') or '') == prefix[1])
        raise ValueError(f'{", ".join(paths)} holds no weights whose names begin with {prefix[1]}') from error
    except RuntimeError as error:  # modules that load the weights themselves, such as Swin, may do so strictly
        if 'loading state_dict' not in str(error):
            raise
        paths = dict.fromkeys(watch.path for watch in watches if watch.seen)
        raise ValueError(f'{", ".join(paths)} does not fit: {" ".join(str(error).split())[:300]}') from error
    finally:
        for hook in hooks:
            hook.remove()


@dataclass
class Watch:
    """A hook that compares the weights which are about to be loaded with those of the module that asked for them."""

    place: str  # of the module in the config
    module: nn.Module
    where: str  # of the path within the module, such as 'init_cfg'
    init: dict[str, Any]
    seen: bool = False

    @property
    def path(self) -> str:
        """The file or URL."""
        return self.init['checkpoint']

    def __call__(self, module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        """Check the weights; the arguments are those of torch's hooks.

        Raises:
            ValueError: They are less than half of those of the module.
        """
        if self.seen or prefix:  # prefix: a module around this one loads its own weights
            return
        self.seen = True
        own = _learnt_before(module)
        theirs = shapes_of(state)
        lacking = [name for name, shape in own.items() if theirs.get(name) != shape]
        told = f'{self.path} holds {len(own) - len(lacking)} of the {len(own)} weights of {self.place} ({type(module).__name__})'
        if 2 * len(lacking) > len(own):
            raise ValueError(f'{told}: {self._advice(state, theirs, own, lacking)}')
        lacking = [name for name in lacking if not EXPECTED.fullmatch(name)]
        if lacking and is_main_process():
            print(f'warning: {told}; the others keep their initial values: {short(lacking)}')

    def _advice(self, state: dict[str, Any], theirs: Shapes, own: Shapes, lacking: list[str]) -> str:
        if nested := [key for key in find_weights(state) if key]:
            return _found(self.path, {nested[0]: state[nested[0]]})
        if prefix := fitting_prefix(theirs, own):
            return f'its names begin with {prefix}; add --cfg-options {self.place}.{self.where}.prefix={prefix}'
        name = lacking[0]
        if len(lacking) < len(own):
            return f'it lacks {short(lacking)}'
        if name in theirs:
            return f'{name} is {tuple(theirs[name])} in the file and {tuple(own[name])} in the model'
        return f'its names are others, such as {next(iter(state), "none")} where the model has {name}'


def _found(path: str, state: dict[str, Any]) -> str:
    """Return the names of a file's weights, in short, and what to do if they lie under a key that mmengine does not read."""
    key = next((key for key in find_weights(state) if key), None)
    if key:
        return f"its weights are under '{key}', where mmengine does not look; save them alone: {how_to_save(path, key)}"
    starts = dict.fromkeys(str(name).split('.')[0] + '.' for name in state)
    return f'they begin with {short(starts)}'


def _learnt_before(module: nn.Module) -> Shapes:
    """Return the shapes of the weights that a file from before this package can have: floating-point ones, outside of upsamplers."""
    ours = tuple(f'{name}.' for name, part in module.named_modules() if name and hasattr(type(part), 'guided'))
    state = {name: value for name, value in module.state_dict().items() if value.is_floating_point()}
    return shapes_of({name: value for name, value in state.items() if not name.startswith(ours)})


def _init_cfgs(init_cfg: Any) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield the initialisations of a module that load a file, with their places."""
    several = isinstance(init_cfg, (list, tuple))
    for i, init in enumerate(init_cfg if several else [init_cfg]):
        if isinstance(init, dict) and _is_pretrained(init) and isinstance(init.get('checkpoint'), str):
            yield (f'init_cfg.{i}' if several else 'init_cfg'), init


def _is_pretrained(init: dict[str, Any]) -> bool:
    kind = init.get('type')
    return (kind if isinstance(kind, str) else getattr(kind, '__name__', '')).split('.')[-1] in KINDS


def _dotted(prefix: str) -> str:
    return prefix if prefix.endswith('.') else f'{prefix}.'
