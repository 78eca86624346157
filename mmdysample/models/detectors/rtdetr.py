"""RT-DETR of mmdet's DINO: the encoder is the neck."""

from typing import Any

from mmengine.config import ConfigDict
from mmengine.model import ModuleList

from mmdysample.frameworks import require
from mmdysample.registry import MODELS

require('mmdet', 'mmdysample.RTDETR')

from mmdet.models.detectors import DINO  # noqa: E402


@MODELS.register_module()
class RTDETR(DINO):
    """mmdet's DINO without an encoder of its own, for a neck that is one, such as ``mmdysample.RTDETRFusion``.

    Query selection, decoder, denoising, losses and the names in the state dict are DINO's. ``level_embed``, which DINO's encoder alone
    reads, stays in the state dict and is not trained.

    Args:
        args: As in mmdet's DINO.
        decoder: As in mmdet's DINO. Its width is that of the neck; mmdet's decoder encodes boxes in 512 numbers, which fixes it to 256.
        kwargs: As in mmdet's DINO, without ``encoder`` and ``positional_encoding``.

    Raises:
        ValueError: An encoder is given, or the decoder has another width.
    """

    def __init__(self, *args: Any, decoder: dict[str, Any], **kwargs: Any) -> None:
        for name in ('encoder', 'positional_encoding'):
            if kwargs.get(name):
                raise ValueError(f'the encoder of RTDETR is its neck, so {name} must not be given, got {kwargs[name]}')
        super().__init__(*args, decoder=decoder, **kwargs)

    def _init_layers(self) -> None:
        embed_dims = self.decoder['layer_cfg']['self_attn_cfg'].get('embed_dims', 256)
        if embed_dims != 256:
            raise ValueError(f"mmdet's DINO decoder needs embed_dims=256, which it encodes boxes for, got {embed_dims}")
        # DINO builds its encoder without asking for a type, and reads the width off the first layer. Empty, it returns what it is given.
        width = dict(embed_dims=embed_dims)
        self.encoder = ConfigDict(num_layers=1, layer_cfg=dict(self_attn_cfg=dict(width), ffn_cfg=dict(width)))
        self.positional_encoding = dict(num_feats=embed_dims // 2)
        super()._init_layers()
        self.encoder.layers = ModuleList()
        self.level_embed.requires_grad_(False)
