"""Compare the config of a training that resumes with the config in its checkpoint.

On resuming, mmengine restores the optimizer and its schedules from the checkpoint, without a word about a config that asks for others. It
also loads the weights into any model whose weights have the same names and shapes, whatever the model computes with them.
"""

import ast
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Optional

from mmengine.config import Config

SHOWN = 3  # changes that a message names
WIDTH = 60  # characters of the longest value that a message shows in full

# Keys below `model`, at any depth.
UNUSED = {'init_cfg', 'pretrained', 'teacher_ckpt', 'test_cfg', 'with_cp'}  # weights are loaded afterwards; with_cp only saves memory
OF_TRAINING = {'train_cfg', 'batch_augments'}
BATCH_NORMS = 'BN', 'BN2d', 'SyncBN', 'MMSyncBN'  # one function of the same weights; only their statistics in training may differ
# Keys below `optim_wrapper`, at any depth: a wrapper of several optimizers has one more level.
RESTORED = {'optimizer', 'paramwise_cfg', 'constructor'}
# Keys of `train_dataloader` that change how fast images are loaded, and not which.
OF_LOADING = {'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor', 'multiprocessing_context', 'timeout'}
OF_BEST = {'save_best', 'rule'}  # of a checkpoint hook
BATCH = 'train_dataloader', 'batch_size'
# Values that a learning rate and its schedule were chosen for.
LENGTHS = BATCH, ('train_cfg', 'max_epochs'), ('train_cfg', 'max_iters')


class Code:
    """A value that is no literal, such as the name of a class. It is never executed; equal text is the same value."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Code) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return self.text


NOT_SET = Code('(not set)')


class Change(NamedTuple):
    """A value that differs: its place, such as ``('optim_wrapper', 'optimizer', 'lr')``, and both values, or ``NOT_SET``."""

    place: tuple[Any, ...]
    old: Any
    new: Any


def check_changes(config: Config, content: Mapping[str, Any], path: str) -> list[str]:
    """Check that a training which resumes goes on with the model, the optimizer and the schedules of its config.

    Compared is what training uses. A change of the following is an error:

    - ``optim_wrapper.optimizer``, ``paramwise_cfg``, ``constructor``, ``param_scheduler``, ``auto_scale_lr`` and ``randomness.seed``, which
      mmengine restores from the checkpoint;
    - ``save_best`` and ``rule`` of a checkpoint hook, because mmengine would compare scores of two metrics;
    - ``model``, without the exceptions below.

    A change of the following takes effect when training resumes, and is told in a line:

    - ``train_cfg``, ``custom_hooks``, ``sync_bn`` and the rest of ``optim_wrapper``;
    - ``train_dataloader``, without the number of workers and the like;
    - below ``model``, ``train_cfg``, ``batch_augments`` and what begins with ``loss``: they change the objective, and not the model;
    - below ``model``, in a distributed training, ``SyncBN`` instead of ``BN`` or the reverse. In any other, mmengine uses ``BN`` for both.

    Everything else is not compared: validation and test, hooks that log and save, what depends on the machine, and below ``model``
    ``init_cfg``, ``pretrained``, ``teacher_ckpt``, ``test_cfg``, ``with_cp`` and the path of DUpsample's matrix. A top-level
    ``data_preprocessor`` counts as that of the model if the model has none, as for mmengine.

    Args:
        config: The config of the training that resumes.
        content: The content of the checkpoint. mmengine saves the text of the config in it, which is parsed and not executed.
        path: The file of the checkpoint, for the messages.

    Returns:
        Lines for the user.

    Raises:
        ValueError: The config has a change that mmengine would ignore, or one that makes another model with the same weights.
    """
    try:
        old, new = parse(content['meta']['cfg']), parse(config.pretty_text)
    except (KeyError, TypeError, ValueError, SyntaxError):  # the last one is mmengine's, for a config that it cannot write
        return [f'{path} holds no config that can be read, so a change of the config is not noticed']
    found: dict[str, list[Change]] = {'model': [], 'restored': [], 'effective': []}
    distributed = config.get('launcher', 'none') != 'none'
    for change in _differing(_used(old), _used(new)):
        found.get(_kind(change, distributed), []).append(change)
    seeds = seed_of(content), (config.get('randomness') or {}).get('seed')
    if None not in seeds and seeds[0] != seeds[1]:
        found['restored'].append(Change(('randomness', 'seed'), *seeds))
    faults = []
    if found['model']:
        faults.append(f'{_told(found["model"])}, and {path} is of the model before this change')
    if found['restored']:
        faults.append(f'{_told(found["restored"])}, and --resume keeps what {path} has')
    if faults:
        value = 'value' if len(found['model'] + found['restored']) == 1 else 'values'
        raise ValueError(
            f'{"; ".join(faults)}: give the old {value}, or start a new training from its weights, without --resume: --cfg-options '
            f'load_from={path} and another --work-dir'
        )
    return _lines(found['effective'], new.get('train_cfg', {}))


def seed_of(content: Mapping[str, Any]) -> Optional[int]:
    """Return the seed that a checkpoint was trained with, or None if it does not say so."""
    meta = content.get('meta')
    seed = meta.get('seed') if isinstance(meta, Mapping) else None
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else None


def parse(text: str) -> dict[str, Any]:
    """Return the values that the text of a config assigns. Nothing is executed.

    Args:
        text: Text as of mmengine's ``Config.pretty_text``.

    Returns:
        Literals, and dicts and lists of them. Tuples become lists. Anything else is :class:`Code`.

    Raises:
        ValueError: The text is not Python.
        TypeError: It is no text.
    """
    try:
        lines = ast.parse(text).body
        return {
            target.id: _value(line.value)
            for line in lines
            if isinstance(line, ast.Assign)
            for target in line.targets
            if isinstance(target, ast.Name)
        }
    except (SyntaxError, RecursionError, MemoryError) as error:  # the last two for brackets that are nested thousands of times
        raise ValueError(f'a config that is not Python: {type(error).__name__}') from error


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Set):  # its order differs between processes
        return sorted((_value(item) for item in node.elts), key=repr)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _value(node.operand)
        if isinstance(number, (int, float)):
            return -number
    if isinstance(node, ast.Dict) and all(node.keys):
        return {_key(key): _value(value) for key, value in zip(node.keys, node.values) if key}
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict' and all(keyword.arg for keyword in node.keywords):
        inner = [_value(argument) for argument in node.args]  # mmengine writes dict({'a.b': 1}) if a key is not a name
        if len(inner) <= 1 and all(isinstance(argument, dict) for argument in inner):
            return {**dict(*inner), **{str(keyword.arg): _value(keyword.value) for keyword in node.keywords}}
    return Code(ast.unparse(node))


def _key(node: ast.expr) -> Any:
    return node.value if isinstance(node, ast.Constant) else Code(ast.unparse(node))


def _used(config: dict[str, Any]) -> dict[str, Any]:
    """Return what mmengine's runner uses of the values of a config, each where the runner uses it."""
    used = {key: value for key, value in config.items() if value is not None}  # the runner takes None for what is not set
    preprocessor, model = used.pop('data_preprocessor', NOT_SET), used.get('model')
    if isinstance(model, dict) and preprocessor is not NOT_SET:
        used['model'] = {'data_preprocessor': preprocessor, **model}  # that of the model comes first, even if it is None
    return used


def _differing(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    """Yield what differs between two configs and has an effect together with the rest of the config."""
    scales = any(_is_enabled(config.get('auto_scale_lr', NOT_SET)) for config in (old, new))
    for change in differing(old, new):
        if change.place[0] != 'auto_scale_lr' or scales:
            yield change


def _is_enabled(scaling: Any) -> bool:
    return bool(scaling.get('enable')) if isinstance(scaling, dict) else scaling is not NOT_SET


def differing(old: Any, new: Any, place: tuple[Any, ...] = ()) -> Iterator[Change]:
    """Yield what differs between two values of plain data, as deep as it can be told: lists of another length differ as a whole."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({**old, **new}, key=lambda key: (key != 'type', str(key))):
            yield from differing(old.get(key, NOT_SET), new.get(key, NOT_SET), (*place, key))
    elif _is_nested(old) and _is_nested(new) and len(old) == len(new):
        for i, pair in enumerate(zip(old, new)):
            yield from differing(*pair, (*place, i))
    elif old != new:
        yield Change(place, old, new)


def _is_nested(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value)


def _kind(change: Change, distributed: bool) -> str:
    """Return what a change does: ``'model'``, ``'restored'`` or ``'effective'``, or ``''`` if training does not notice it."""
    top, *below = change.place
    if top == 'model':
        if UNUSED.intersection(below) or _is_other_file(change):
            return ''
        if below[-2:] == ['norm_cfg', 'type'] and change.old in BATCH_NORMS and change.new in BATCH_NORMS:
            return 'effective' if distributed else ''
        objective = OF_TRAINING.intersection(below) or any(str(key).startswith('loss') for key in below)
        return 'effective' if objective else 'model'
    if top in ('default_hooks', 'custom_hooks') and OF_BEST.intersection(below):  # the best score so far is of the old metric
        return '' if NOT_SET in (change.old, change.new) else 'restored'
    if top in ('param_scheduler', 'auto_scale_lr') or (top == 'optim_wrapper' and RESTORED.intersection(below)):
        return 'restored'
    if top in ('train_cfg', 'optim_wrapper', 'custom_hooks', 'sync_bn'):
        return 'effective'
    return 'effective' if top == 'train_dataloader' and not OF_LOADING.intersection(below[:1]) else ''


def _is_other_file(change: Change) -> bool:
    """Return True for another path of DUpsample's matrix, which is in the checkpoint. With no path, the matrix may be trained."""
    return change.place[-1] == 'matrix' and isinstance(change.old, str) and isinstance(change.new, str)


def _lines(changes: list[Change], train_cfg: dict[str, Any]) -> list[str]:
    lengths = [change for change in changes if change.place in LENGTHS]
    others = [change for change in changes if change.place not in LENGTHS]
    lines = [f'{_told(others)}; this takes effect from here on'] if others else []
    if lengths:
        reordered = 'max_iters' in train_cfg and any(change.place == BATCH for change in lengths)
        order = ', and images come in another order' if reordered else ''
        lines.append(f'{_told(lengths)}; the learning rate and its schedule stay as they were{order}')
    return lines


def _told(changes: list[Change]) -> str:
    named = []
    for change in changes[:SHOWN]:
        old, new = _short(change.old), _short(change.new)
        named.append(f'{".".join(map(str, change.place))} from {old} to {new if new != old else "others"}')
    more = f' and {len(changes) - SHOWN} more' if len(changes) > SHOWN else ''
    return f'the config changes {", ".join(named)}{more}'


def _short(value: Any) -> str:
    text = repr(value)
    if len(text) <= WIDTH:
        return text
    if isinstance(value, list):
        return f'[{len(value)} entries]'
    if isinstance(value, dict):
        return f'dict(type={value["type"]!r}, ...)' if 'type' in value else 'dict(...)'
    return f'{text[:WIDTH]}...'
