"""The scope ``mmdysample`` of the model registry: necks and heads that keep the name of the stock module they extend.

Upsamplers are registered in mmengine's root registry instead, which every framework sees. mmengine imports this file by itself when it
meets the prefix in ``type='mmdysample.FPN'``, so a config needs no ``custom_imports``.
"""

from importlib import import_module
from typing import Optional

from mmengine.registry import MODELS as ROOT
from mmengine.registry import Registry

# What stands where. mmengine's own ``locations`` would import all of it at the first look-up, and so make a detector need mmseg.
LOCATIONS = {
    'DUpsampleHead': 'mmdysample.heads.dupsample_head',
    'FPN': 'mmdysample.necks.fpn',
    'RTDETR': 'mmdysample.detectors.rtdetr',
    'RTDETRFusion': 'mmdysample.necks.rtdetr_fusion',
    'SegformerHead': 'mmdysample.heads.segformer_head',
}


class LazyRegistry(Registry):
    """A registry that imports a module when its name is first asked for."""

    def get(self, key: str) -> Optional[type]:
        """Get a class by name; see :meth:`mmengine.registry.Registry.get`.

        Raises:
            ImportError: The framework that the class extends is not installed, or too old.
        """
        name = key.removeprefix(f'{self.scope}.')
        if name in LOCATIONS:
            import_module(LOCATIONS[name])
        return super().get(key)


MODELS = LazyRegistry('model', parent=ROOT, scope='mmdysample')
