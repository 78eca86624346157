"""The names of the upsamplers.

They stand in a table of this package and, where mmengine is installed, also in its root registry, which is where mmcv's
``build_upsample_layer`` looks and which every OpenMMLab framework sees. Neither the table nor the upsamplers need mmengine.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Optional, TypeVar
from warnings import warn

Class = TypeVar('Class', bound=type)

#: Every upsampler that was registered, by name.
UPSAMPLERS: dict[str, type] = {}


def register_upsampler(name: Optional[str] = None) -> Callable[[Class], Class]:
    """Register the decorated class, so that :func:`~mmdysample.build_upsampler` and every ``upsample_cfg`` find it by name.

    Args:
        name: The name in configs; by default that of the class.

    Raises:
        ValueError: Another class has the name.
    """

    def register(cls: Class) -> Class:
        chosen = name or cls.__name__
        if UPSAMPLERS.get(chosen, cls) is not cls:
            raise ValueError(f'the name {chosen!r} belongs to {UPSAMPLERS[chosen].__name__}; register {cls.__name__} under another one')
        if (registry := mmengine_registry()) is not None:
            registry.register_module(name=chosen, module=cls)
        UPSAMPLERS[chosen] = cls
        return cls

    return register


def mmengine_registry() -> Any:
    """Return mmengine's root registry of models, or None where mmengine is not installed or cannot be imported."""
    if find_spec('mmengine') is None:
        return None
    try:
        # Importing this costs 0.13 s; mmengine.model, which nothing here needs, costs another 0.7 s.
        from mmengine.registry import MODELS
    except ImportError as error:
        warn(f'mmengine is installed but cannot be imported ({error}), so configs do not find the upsamplers of mmdysample', stacklevel=2)
        return None
    return MODELS
