"""The scope ``mmdysample`` of the registries: necks, heads and metrics that keep the name of the stock module they extend.

Upsamplers are registered in mmengine's root registry instead, which every framework sees. mmengine imports this file by itself when it
meets the prefix in ``type='mmdysample.FPN'``, so a config needs no ``custom_imports``.
"""

from importlib import import_module
from typing import Any, Optional

from mmengine.registry import METRICS as ROOT_METRICS
from mmengine.registry import MODELS as ROOT
from mmengine.registry import Registry

# What stands where. mmengine's own ``locations`` would import all of it at the first look-up, and so make a detector need mmseg.
LOCATIONS = {
    'DenseDepthHead': 'mmdysample.heads.dense_depth_head',
    'DUpsampleHead': 'mmdysample.heads.dupsample_head',
    'FPN': 'mmdysample.necks.fpn',
    'PixelDecoder': 'mmdysample.necks.pixel_decoder',
    'SegformerHead': 'mmdysample.heads.segformer_head',
    'TransformerEncoderPixelDecoder': 'mmdysample.necks.pixel_decoder',
    'UPerHead': 'mmdysample.heads.uper_head',
    'Upsampled': 'mmdysample.replacement.upsampled',
}
METRIC_LOCATIONS = {
    'DepthMetric': 'mmdysample.evaluation.depth_metric',
}


class LazyRegistry(Registry):
    """A registry that imports a module when its name is first asked for.

    Args:
        name: As in mmengine's registry.
        modules: The module of each name.
        kwargs: As in mmengine's registry.
    """

    def __init__(self, name: str, modules: dict[str, str], **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.modules = modules

    def get(self, key: str) -> Optional[type]:
        """Get a class by name; see :meth:`mmengine.registry.Registry.get`.

        Raises:
            ImportError: The framework that the class extends is not installed, or too old.
        """
        name = key.removeprefix(f'{self.scope}.')
        if name in self.modules:
            import_module(self.modules[name])
        return super().get(key)


MODELS = LazyRegistry('model', LOCATIONS, parent=ROOT, scope='mmdysample')
METRICS = LazyRegistry('metric', METRIC_LOCATIONS, parent=ROOT_METRICS, scope='mmdysample')
