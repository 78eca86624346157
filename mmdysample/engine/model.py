"""Build the model of a config, without data or weights."""

from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from .errors import one_line, show_traceback


@contextmanager
def naming_the_config(config: Config) -> Iterator[None]:
    """Turn the errors that a wrong config causes in mmengine, mmdet and mmseg into a ValueError of one line with the config's name.

    Raises:
        ValueError: The code in the ``with`` block raised such an error.
    """
    try:
        yield
    except (KeyError, RuntimeError, TypeError, AssertionError, AttributeError) as error:
        if show_traceback():
            raise
        raise ValueError(
            f'the config {config.filename} cannot be built: {type(error).__name__}: {one_line(error)[:400]} '
            '(MMDYSAMPLE_TRACEBACK=1 shows where)'
        ) from error


def build_model(config: Config) -> nn.Module:
    """Build the model of a config. Pretrained weights are not loaded: only ``init_weights`` would load them.

    Raises:
        ValueError: The model cannot be built.
    """
    scope = config.get('default_scope')
    with naming_the_config(config):
        if scope:
            init_default_scope(scope)
        return MODELS.build(dict(config.model, **({'_scope_': scope} if scope else {})))
