"""What a dataset's config leaves to the dataset's class."""

import inspect
from typing import Any, NamedTuple, Optional

from mmengine.config import Config
from mmengine.registry import DATASETS


class Stock(NamedTuple):
    """The classes and the arguments of a dataset: those of its config, or else the defaults of its class."""

    classes: tuple[str, ...]
    arguments: dict[str, Any]


def stock(config: Config, dataset: dict[str, Any]) -> Stock:
    """Return what a dataset would use if it were built from its config, whether or not its files exist."""
    with DATASETS.switch_scope_and_registry(config.get('default_scope')) as registry:
        cls: Optional[type] = registry.get(str(dataset.get('type')))
    arguments: dict[str, Any] = {}
    for base in reversed(getattr(cls, '__mro__', ())):
        if '__init__' in vars(base):
            parameters = inspect.signature(base.__init__).parameters.values()
            arguments |= {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}
    classes = (dataset.get('metainfo') or {}).get('classes') or getattr(cls, 'METAINFO', {}).get('classes') or ()
    return Stock(tuple(classes), arguments | dict(dataset))
