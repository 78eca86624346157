"""Registration of the upsamplers by name.

Every upsampler is in a dict of this package. If mmengine is installed, it is also in mmengine's root registry, where mmcv's
``build_upsample_layer`` and every OpenMMLab framework find it. Neither the dict nor the upsamplers need mmengine.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any, Optional, TypeVar
from warnings import warn

Class = TypeVar('Class', bound=type)

#: Every registered upsampler, by name.
UPSAMPLERS: dict[str, type] = {}


def register_upsampler(name: Optional[str] = None) -> Callable[[Class], Class]:
    """Register the decorated class, so that :func:`~mmdysample.build_upsampler` and every ``upsample_cfg`` find it by name.

    Args:
        name: The name in configs. The default is the name of the class.

    Raises:
        ValueError: Another class is already registered under the name.
    """

    def register(cls: Class) -> Class:
        chosen = name or cls.__name__
        if UPSAMPLERS.get(chosen, cls) is not cls:
            raise ValueError(f'the name {chosen!r} belongs to {UPSAMPLERS[chosen].__name__}; register {cls.__name__} under another name')
        if (registry := mmengine_registry()) is not None:
            registry.register_module(name=chosen, module=cls)
        UPSAMPLERS[chosen] = cls
        return cls

    return register


@cache
def mmengine_registry() -> Any:
    """Return mmengine's root registry of models, or None where mmengine is not installed or cannot be imported."""
    try:
        if find_spec('mmengine') is None:
            return None
        # Importing this costs 0.13 s; mmengine.model, which nothing here needs, costs another 0.7 s.
        from mmengine.registry import MODELS
    except Exception as error:  # an installation that does not fit its dependencies can raise anything
        why = f'{type(error).__name__}: {error}'
        warn(f'mmengine is installed but cannot be imported ({why}), so configs do not find the upsamplers of mmdysample', stacklevel=2)
        return None
    return MODELS
