"""From a config to its model alone, without data or weights."""

from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from .errors import one_line, show_traceback


@contextmanager
def naming_the_config(config: Config) -> Iterator[None]:
    """Turn whatever a wrong config makes the frameworks raise into one line.

    Raises:
        ValueError: What is built here cannot be built.
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
    """Build the model of a config; pretrained weights, which only its initialisation would load, stay where they are.

    Raises:
        ValueError: The model cannot be built.
    """
    scope = config.get('default_scope')
    with naming_the_config(config):
        if scope:
            init_default_scope(scope)
        return MODELS.build(dict(config.model, **({'_scope_': scope} if scope else {})))
