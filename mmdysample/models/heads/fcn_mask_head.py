"""Mask R-CNN's mask head with an upsampler by name."""

from typing import Any, Optional

from mmdysample.frameworks import require
from mmdysample.registry import MODELS
from mmdysample.upsamplers.builder import UpsampleConfig, build_upsampler, resolve

require('mmdet', 'mmdysample.FCNMaskHead')

from mmdet.models.roi_heads.mask_heads import FCNMaskHead as StockFCNMaskHead  # noqa: E402

# What mmdet's head builds. Its 'carafe' is left out: that runs on CUDA alone, and ours has its weights.
STOCK_TYPES = (None, 'deconv', 'nearest', 'bilinear')


@MODELS.register_module()
class FCNMaskHead(StockFCNMaskHead):
    """mmdet's mask head, with the upsampler between its convolutions and the classifier by name.

    Its own ``deconv`` (2x2, with a ReLU after it), ``nearest``, ``bilinear`` and None mean what they mean in mmdet, to the bit. Any
    other upsampler keeps the channels and stands without a ReLU, as mmdet's ``bilinear`` does: DySample puts 8,224 parameters where
    ``deconv`` has 262,400. The DySample paper keeps ``deconv`` here.

    Args:
        upsample_cfg: An upsampler that takes no guide, see :func:`~mmdysample.build_upsampler`; x2 unless it has another
            ``scale_factor``, which ``mask_size`` of the training config must then follow.
        kwargs: As in mmdet's head.

    Raises:
        ValueError: The upsampler is unknown, guided, or does not fit the channels.
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
            raise ValueError(f'{config["type"]} is guided by a finer map, which a mask head has not: take an upsampler without a guide')
        super().__init__(upsample_cfg=dict(type=None), **kwargs)
        channels = self.conv_out_channels if self.num_convs else self.in_channels
        self.upsample = build_upsampler(config, channels, config.get('scale_factor', 2))
