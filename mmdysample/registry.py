"""The scope ``mmdysample`` of mmengine's registries, for classes that extend a class of mmdet or mmseg and keep its name.

Upsamplers are registered in mmengine's root registry instead, which every framework sees. mmengine imports this file automatically
when it meets the prefix in ``type='mmdysample.FPN'``, so a config needs no ``custom_imports``.
"""

from importlib import import_module
from typing import Optional

from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.registry import METRICS as ROOT_METRICS
from mmengine.registry import MODELS as ROOT
from mmengine.registry import TRANSFORMS as ROOT_TRANSFORMS
from mmengine.registry import VISUALIZERS as ROOT_VISUALIZERS
from mmengine.registry import Registry

from .locations import LOCATIONS


class LazyRegistry(Registry):
    """A registry that imports the module of a class when the class is first requested."""

    def get(self, key: str) -> Optional[type]:
        """Return the class of a name, see :meth:`mmengine.registry.Registry.get`.

        Raises:
            ImportError: The framework that the class extends is not installed or too old.
        """
        name = key.removeprefix(f'{self.scope}.')
        if name in LOCATIONS:
            import_module(LOCATIONS[name])
        return super().get(key)


MODELS = LazyRegistry('model', parent=ROOT, scope='mmdysample')
DATASETS = LazyRegistry('dataset', parent=ROOT_DATASETS, scope='mmdysample')
METRICS = LazyRegistry('metric', parent=ROOT_METRICS, scope='mmdysample')
TRANSFORMS = LazyRegistry('transform', parent=ROOT_TRANSFORMS, scope='mmdysample')
VISUALIZERS = LazyRegistry('visualizer', parent=ROOT_VISUALIZERS, scope='mmdysample')
