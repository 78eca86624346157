"""RT-DETR as a subclass of mmdet's DINO, with the encoder in the neck."""

from typing import Any

from mmengine.config import ConfigDict
from mmengine.model import ModuleList

from mmdysample.frameworks import require
from mmdysample.registry import MODELS

require('mmdet', 'mmdysample.RTDETR')

from mmdet.models.detectors import DINO  # noqa: E402


@MODELS.register_module()
class RTDETR(DINO):
    """mmdet's DINO without an encoder, for a neck that contains the encoder, such as ``mmdysample.RTDETRFusion``.

    Query selection, decoder, denoising, losses and the names in the state dict are DINO's. ``level_embed`` stays in the state dict but is
    not trained, because only DINO's encoder reads it.

    Args:
        args: As in mmdet's DINO.
        decoder: As in mmdet's DINO. Its ``embed_dims`` must be the neck's ``out_channels``, and 256, because mmdet's decoder encodes boxes
            in 512 numbers.
        kwargs: As in mmdet's DINO, without ``encoder`` and ``positional_encoding``.

    Raises:
        ValueError: ``encoder`` or ``positional_encoding`` is given, or ``embed_dims`` of the decoder is not 256.
    """

    def __init__(self, *args: Any, decoder: dict[str, Any], **kwargs: Any) -> None:
        for name in ('encoder', 'positional_encoding'):
            if kwargs.get(name):
                raise ValueError(f'the neck of RTDETR is its encoder, so {name} must not be given, got {kwargs[name]}')
        super().__init__(*args, decoder=decoder, **kwargs)

    def _init_layers(self) -> None:
        embed_dims = self.decoder['layer_cfg']['self_attn_cfg'].get('embed_dims', 256)
        if embed_dims != 256:
            raise ValueError(f"mmdet's DINO decoder encodes boxes for embed_dims=256 only, got {embed_dims}")
        # DINO always builds an encoder and reads the width from its first layer. Without layers, the encoder returns its input.
        width = dict(embed_dims=embed_dims)
        self.encoder = ConfigDict(num_layers=1, layer_cfg=dict(self_attn_cfg=dict(width), ffn_cfg=dict(width)))
        self.positional_encoding = dict(num_feats=embed_dims // 2)
        super()._init_layers()
        self.encoder.layers = ModuleList()
        self.level_embed.requires_grad_(False)
