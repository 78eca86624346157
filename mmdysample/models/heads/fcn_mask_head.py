"""Mask R-CNN's mask head with a configurable upsampler."""

from typing import Any, Optional

from mmdysample.frameworks import require
from mmdysample.registry import MODELS
from mmdysample.upsamplers.builder import UpsampleConfig, build_upsampler, resolve

require('mmdet', 'mmdysample.FCNMaskHead')

from mmdet.models.roi_heads.mask_heads import FCNMaskHead as StockFCNMaskHead  # noqa: E402

# The types that mmdet's head builds. Its 'carafe' is not among them: it runs on CUDA only, and our CARAFE has the same weights.
STOCK_TYPES = (None, 'deconv', 'nearest', 'bilinear')


@MODELS.register_module()
class FCNMaskHead(StockFCNMaskHead):
    """mmdet's mask head with a configurable upsampler between its convolutions and the classifier.

    With ``deconv`` (2x2, followed by a ReLU), ``nearest``, ``bilinear`` and None, the output is identical to mmdet's. Any other upsampler
    keeps the number of channels and, like mmdet's ``bilinear``, has no ReLU after it. DySample has 8,224 parameters here, ``deconv``
    262,400. The DySample paper keeps ``deconv``.

    Args:
        upsample_cfg: The upsampler, see :func:`~mmdysample.build_upsampler`; ``deconv`` by default. It must not be guided (read a finer
            map). Its ``scale_factor`` is 2 by default; ``mask_size`` in the training config must be changed with it.
        kwargs: As in mmdet's head.

    Raises:
        ValueError: The upsampler is unknown or guided, or does not fit the channels.
    """

    def __init__(self, upsample_cfg: Optional[UpsampleConfig] = None, **kwargs: Any) -> None:
        cfg = upsample_cfg or {'type': 'deconv'}
        config = dict(cfg) if isinstance(cfg, dict) else {'type': cfg}
        if config.get('type', '') in STOCK_TYPES:
            stock = {'scale_factor': 2, **config} if config['type'] else config
            super().__init__(upsample_cfg=stock, **kwargs)
            return
        config, cls, _ = resolve(config)
        if getattr(cls, 'guided', False):
            raise ValueError(f'{config["type"]} needs a finer map as guide, and a mask head has none: choose another upsampler')
        super().__init__(upsample_cfg=dict(type=None), **kwargs)
        channels = self.conv_out_channels if self.num_convs else self.in_channels
        self.upsample = build_upsampler(config, channels, config.get('scale_factor', 2))
