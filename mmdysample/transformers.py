"""Load models of transformers together with their upsamplers.

:func:`~mmdysample.replace_upsample` writes the recipe into ``model.config``, so ``model.save_pretrained(folder)`` saves it in
``config.json``. :func:`from_pretrained` loads such a folder.

Importing this module changes two methods of ``PreTrainedModel``. ``from_pretrained`` warns if it drops upsamplers. ``save_pretrained``
first writes the recipe again, because a model may share its config with another, or only a part of it was given to ``replace_upsample``.
"""

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any

from .frameworks import require_package
from .replacement.apply import apply_upsample, renew_upsamplers
from .replacement.hub_config import KEY, forget
from .replacement.recipe import keep_recipe, warn_if_dropped
from .replacement.routing import is_routed, routed_class

require_package('transformers', 'mmdysample.transformers')
from transformers import PreTrainedModel  # noqa: E402

_with_upsamplers: ContextVar[bool] = ContextVar('_with_upsamplers', default=False)  # set by from_pretrained for the call that it makes


def from_pretrained(cls: Any, folder: Any, *args: Any, **options: Any) -> Any:
    """Load a model that was saved with its upsamplers, as ``cls.from_pretrained(folder, *args, **options)`` loads one without.

    Args:
        cls: The class of the model, such as ``SegformerForSemanticSegmentation``, or an ``AutoModelFor...`` class.
        folder: A folder of ``save_pretrained``, or the name of a repository on the Hugging Face hub.
        args: Further arguments of the constructor.
        options: The options of transformers: ``dtype``, ``revision``, values of the config, ...

    Returns:
        The model in evaluation mode, with its upsamplers.

    Raises:
        ValueError: ``cls`` is not a class of transformers; the config has no recipe; the recipe does not fit the model; or a
            weight is missing, left over or of another shape. With ``ignore_mismatched_sizes=True``, weights outside the upsamplers
            may have another shape.
        Exception: Whatever ``cls.from_pretrained`` raises.
    """
    known = isinstance(cls, type) and (issubclass(cls, PreTrainedModel) or hasattr(cls, '_model_mapping'))
    if not known:  # a from_pretrained of another library would return a model without upsamplers
        raise ValueError(f'from_pretrained needs a class of a model of transformers, or an AutoModel class, before the folder, got {cls!r}')
    token = _with_upsamplers.set(True)
    try:
        return cls.from_pretrained(folder, *args, **options)
    finally:
        _with_upsamplers.reset(token)


def _load(cls: Any, plain: Callable, folder: Any, *args: Any, **options: Any) -> Any:
    """Load a model by a subclass whose constructor puts in the upsamplers, and return it with the class ``cls``."""
    with_info = options.pop('output_loading_info', False)
    model, info = plain(_subclass(cls), folder, *args, output_loading_info=True, **options)
    _check(cls, folder, info, options.get('ignore_mismatched_sizes', False))
    model.__class__ = routed_class(cls) if 'upsample_base' in vars(type(model)) else cls
    renew_upsamplers(model)  # transformers leaves buffers that are not in a checkpoint uninitialised
    return (model, info) if with_info else model


def _subclass(cls: Any) -> Any:
    class WithUpsamplers(cls):
        def __init__(self, config: Any, *args: Any, **options: Any) -> None:
            super().__init__(config, *args, **options)
            recipe = getattr(config, KEY, None)
            if recipe is None:
                raise ValueError(f'the config has no recipe of upsamplers: load this {cls.__name__} with its own from_pretrained')
            apply_upsample(self, recipe)

    # Messages, and transformers' rules for renamed weights, depend on these names.
    WithUpsamplers.__name__, WithUpsamplers.__qualname__, WithUpsamplers.__module__ = cls.__name__, cls.__qualname__, cls.__module__
    return WithUpsamplers


def _check(cls: Any, folder: Any, info: dict[str, Any], may_mismatch: bool) -> None:
    """Raise a ValueError if a weight was not loaded."""
    mismatched = [key if isinstance(key, str) else key[0] for key in info['mismatched_keys']]
    problems = {
        'missing': info['missing_keys'],
        'left over': info['unexpected_keys'],
        'of another shape': [key for key in mismatched if not may_mismatch or 'upsample_modules' in key],
        'not converted': info.get('error_msgs') or [],
    }
    if may_mismatch:
        problems['missing'] = set(problems['missing']) - set(mismatched)
    text = '; '.join(f'{what}: {_listed(keys)}' for what, keys in problems.items() if keys)
    if text:
        raise ValueError(f'{folder} does not fit {cls.__name__} with its upsamplers: {text}')


def _listed(keys: Any) -> str:
    names = sorted(map(str, keys))
    return ', '.join(names[:5]) + (f' and {len(names) - 5} more' if names[5:] else '')


def _watched_load(plain: Callable) -> Any:
    """Return a ``from_pretrained`` that is :func:`_load` where :func:`from_pretrained` calls it, and otherwise warns."""

    @wraps(plain)
    def load(cls: Any, *args: Any, **options: Any) -> Any:
        if _with_upsamplers.get():
            token = _with_upsamplers.set(False)  # a backbone that the constructor loads has no recipe
            try:
                return _load(cls, plain, *args, **options)
            finally:
                _with_upsamplers.reset(token)
        loaded = plain(cls, *args, **options)
        warn_if_dropped(loaded[0] if isinstance(loaded, tuple) else loaded)
        return loaded

    return classmethod(load)


def _watched_save(plain: Callable) -> Callable:
    """Return a ``save_pretrained`` that first makes the recipe in the config that of the model."""

    @wraps(plain)
    def save(self: Any, *args: Any, **options: Any) -> Any:
        forget(self)
        if any(map(is_routed, self.modules())):
            keep_recipe(self)
        return plain(self, *args, **options)

    return save


PreTrainedModel.from_pretrained = _watched_load(PreTrainedModel.from_pretrained.__func__)
PreTrainedModel.save_pretrained = _watched_save(PreTrainedModel.save_pretrained)
