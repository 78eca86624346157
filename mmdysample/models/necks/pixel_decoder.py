"""MaskFormer's pixel decoders with a configurable upsampler."""

from abc import ABCMeta, abstractmethod
from typing import Any, Optional

import torch
import torch.nn.functional as F
from mmengine.model import ModuleList
from torch import Tensor

from mmdysample.frameworks import require
from mmdysample.registry import MODELS
from mmdysample.upsamplers.builder import UpsampleConfig, named_config_or
from mmdysample.upsamplers.fit import build_steps, upsample_both

require('mmdet', 'mmdysample.PixelDecoder')

from mmdet.models.layers.pixel_decoder import PixelDecoder as StockPixelDecoder  # noqa: E402
from mmdet.models.layers.pixel_decoder import TransformerEncoderPixelDecoder as StockTransformerEncoderPixelDecoder  # noqa: E402


class _EqualToStock(ABCMeta):
    """Metaclass that makes a subclass of mmdet's ``PixelDecoder`` compare equal to ``PixelDecoder``.

    The MaskFormer head of mmdet, which mmseg's extends, projects the backbone's last map to the width of its transformer only if
    ``type(self.pixel_decoder) == PixelDecoder``. It assumes that any other decoder has an encoder, which projects the map itself.
    """

    def __eq__(cls, other: object) -> bool:
        return other is StockPixelDecoder or super().__eq__(other)

    __hash__ = ABCMeta.__hash__


class _TopDown(StockPixelDecoder):
    """The top-down path of both decoders."""

    def __init__(self, upsample_cfg: Optional[UpsampleConfig] = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        named = named_config_or('nearest', upsample_cfg)
        channels = self.mask_feature.in_channels
        # FADE's gate would add the lateral to its output. It is off, because the decoder adds the lateral itself.
        self.upsample_modules = build_steps(named, channels, len(self.lateral_convs), {'gating': False}) if named else ModuleList()

    def init_weights(self) -> None:
        """Initialise the decoder as mmdet does, and each upsampler by its own method."""
        super().init_weights()
        self.upsample_modules.init_weights()

    def forward(self, feats: tuple[Tensor, ...], batch_img_metas: list[dict]) -> tuple[Tensor, Tensor]:
        """Return the mask features and the memory of the transformer decoder.

        Args:
            feats: The backbone's maps, ``(B, in_channels[i], H_i, W_i)``, each half the size of the one before it, rounded up or down.
            batch_img_metas: For each image, its ``img_shape`` and the ``batch_input_shape`` that it was padded to.

        Returns:
            The map from which masks are computed, ``(B, out_channels, H_0, W_0)``, and the map that the transformer decoder reads, of the
            height and width of the coarsest map.
        """
        if not self.upsample_modules:
            return super().forward(feats, batch_img_metas)
        x, memory = self._encode(feats[-1], batch_img_metas)
        for i in reversed(range(len(self.upsample_modules))):
            x, lateral = upsample_both(self.upsample_modules[i], x, self.lateral_convs[i](feats[i]))
            x = self.output_convs[i](lateral + x)
        return self.mask_feature(x), memory

    @abstractmethod
    def _encode(self, top: Tensor, batch_img_metas: list[dict]) -> tuple[Tensor, Tensor]:
        """Return the start of the top-down path and the memory of the transformer decoder, from the backbone's last map."""


@MODELS.register_module()
class PixelDecoder(_TopDown, metaclass=_EqualToStock):
    """mmdet's ``PixelDecoder`` of MaskFormer with a configurable upsampler in its top-down path.

    ::

        C5 -- conv --------- o
                             | upsampler 2
        C4 -- lateral 2 ---- + -- conv 2 -- o
                                            | upsampler 1
        C3 -- lateral 1 ------------------- + -- conv 1 -- o
                                                           | upsampler 0
        C2 -- lateral 0 ---------------------------------- + -- conv 0 -- mask features

    Each step has its own upsampler. A guided upsampler also reads the finer lateral. :func:`~mmdysample.upsamplers.fit.upsample_to` says
    what happens where the finer map has an odd size. Use it as ``pixel_decoder`` of the MaskFormer head of mmdet or mmseg, which sets the
    channels.

    Args:
        upsample_cfg: The upsampler: a dict with a ``type``, a name or a class, see :func:`~mmdysample.build_upsampler`. If it is absent
            or ``dict(mode='nearest')``, the output is identical to mmdet's decoder.
        kwargs: As in mmdet's decoder: ``in_channels``, ``feat_channels``, ``out_channels``, ``norm_cfg``, ``act_cfg``, ``init_cfg``.

    Raises:
        ValueError: The upsampler is unknown or does not fit ``feat_channels``.
    """

    def _encode(self, top: Tensor, batch_img_metas: list[dict]) -> tuple[Tensor, Tensor]:
        return self.last_feat_conv(top), top


@MODELS.register_module()
class TransformerEncoderPixelDecoder(_TopDown, StockTransformerEncoderPixelDecoder):
    """mmdet's ``TransformerEncoderPixelDecoder`` of MaskFormer with a configurable upsampler in its top-down path.

    A transformer encoder processes C5 before the top-down path, which is the same as in :class:`PixelDecoder`.

    Args:
        upsample_cfg: As in :class:`PixelDecoder`.
        kwargs: As in mmdet's decoder: those of :class:`PixelDecoder`, ``encoder`` and ``positional_encoding``.

    Raises:
        ValueError: The upsampler is unknown or does not fit ``feat_channels``.
    """

    def _encode(self, top: Tensor, batch_img_metas: list[dict]) -> tuple[Tensor, Tensor]:
        padding = _padding(top, batch_img_metas)
        memory = self.encoder(
            query=self.encoder_in_proj(top).flatten(2).transpose(1, 2),
            query_pos=self.positional_encoding(padding).flatten(2).transpose(1, 2),
            key_padding_mask=padding.flatten(1),
        )
        memory = memory.transpose(1, 2).unflatten(2, top.shape[2:])
        return self.encoder_out_proj(memory), memory


def _padding(top: Tensor, batch_img_metas: list[dict]) -> Tensor:
    """Return which pixels of a map ``(B, C, H, W)`` are padding: ``(B, H, W)``, bool."""
    padding = top.new_ones(len(top), 1, *batch_img_metas[0]['batch_input_shape'], dtype=torch.float32)
    for plane, meta in zip(padding, batch_img_metas):
        height, width = meta['img_shape']
        plane[:, :height, :width] = 0
    return F.interpolate(padding, size=top.shape[2:], mode='nearest')[:, 0].to(torch.bool)
