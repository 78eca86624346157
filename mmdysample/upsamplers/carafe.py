"""CARAFE as a module: `Content-Aware ReAssembly of FEatures <https://arxiv.org/abs/1905.02188>`_ (Wang et al., ICCV 2019)."""

from functools import cache
from typing import Any, Optional

import torch
from torch import Tensor, nn

from mmdysample.functional import pixel_shuffle, reassemble
from mmdysample.functional.capture import captured

from .base import Upsampler, check_odd, check_positive
from .initialisation import normal, xavier_uniform
from .registration import register_upsampler


@register_upsampler()
class CARAFE(Upsampler):
    """Upsample ``(B, C, H, W)`` to ``(B, C, s*H, s*W)`` with a kernel for each output pixel, predicted from the map.

    This implementation needs only PyTorch and runs on any device. On CUDA, it uses mmcv's operator if mmcv was built with CUDA. Arguments,
    outputs and state dict equal those of mmcv's ``CARAFEPack`` (``carafe``), so its checkpoints load.

    Args:
        in_channels: Channels ``C`` of the map.
        scale_factor: Integer ratio ``s``.
        up_kernel: Odd size ``k`` of the neighbourhood that is reassembled.
        up_group: Number of groups ``g`` of channels; each group has its own kernels.
        encoder_kernel: Odd kernel size of the encoder, the convolution that predicts the kernels.
        encoder_dilation: Dilation of the encoder.
        compressed_channels: Input channels of the encoder, to which a 1x1 convolution (the compressor) reduces the map.
        init_cfg: mmengine's initialisation, which overrides CARAFE's: Xavier for the compressor, and a normal distribution with a standard
            deviation of 0.001 for the encoder.
        device: The device of the parameters.
        dtype: The dtype of the parameters.

    Raises:
        ValueError: An argument is not a positive integer, a kernel size is even, or ``in_channels`` is not divisible by ``up_group``.
    """

    def __init__(
        self,
        in_channels: int,
        scale_factor: int = 2,
        up_kernel: int = 5,
        up_group: int = 1,
        encoder_kernel: int = 3,
        encoder_dilation: int = 1,
        compressed_channels: int = 64,
        init_cfg: Any = None,
        device: Any = None,
        dtype: Optional[torch.dtype] = None,
    ) -> None:
        super().__init__(in_channels, scale_factor, init_cfg)
        up_kernel, encoder_kernel = check_odd(up_kernel=up_kernel, encoder_kernel=encoder_kernel)
        up_group, encoder_dilation, compressed_channels = check_positive(
            up_group=up_group, encoder_dilation=encoder_dilation, compressed_channels=compressed_channels
        )
        factory: dict[str, Any] = {'device': device, 'dtype': dtype}
        if in_channels % up_group:
            raise ValueError(f'in_channels must be divisible by up_group, got {in_channels=}, {up_group=}')
        self.up_kernel = up_kernel
        self.up_group = up_group
        self.channel_compressor = nn.Conv2d(self.in_channels, compressed_channels, 1, **factory)
        self.content_encoder = nn.Conv2d(
            compressed_channels,
            up_group * up_kernel**2 * self.scale_factor**2,
            encoder_kernel,
            padding=encoder_dilation * (encoder_kernel // 2),
            dilation=encoder_dilation,
            **factory,
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as the published implementation does."""
        xavier_uniform(self.channel_compressor)
        normal(self.content_encoder, std=0.001)

    def upsample(self, x: Tensor) -> Tensor:
        """Upsample a map; see :meth:`Upsampler.forward` for the shapes."""
        kernels = self.predict_kernels(x).to(x.dtype)
        if has_mmcv_operator(x):
            from mmcv.ops import carafe

            # mmcv's operator ignores strides, so its inputs must be contiguous.
            return carafe(x.contiguous(), kernels.contiguous(), self.up_kernel, self.up_group, self.scale_factor)
        return reassemble(x, kernels, self.scale_factor, self.up_group)

    def predict_kernels(self, x: Tensor) -> Tensor:
        """Return the reassembly kernels that the module predicts from a map.

        Args:
            x: ``(B, C, H, W)``.

        Returns:
            ``(B, g*k*k, s*H, s*W)``, float32 or wider, the channels ordered as (group, row, column); each kernel sums to one.
        """
        logits = pixel_shuffle(self.content_encoder(self.channel_compressor(x)), self.scale_factor)
        batch, _, height, width = logits.shape
        logits = logits.view(batch, self.up_group, self.up_kernel**2, height, width)
        return logits.softmax(2, dtype=torch.promote_types(logits.dtype, torch.float32)).flatten(1, 2)


def has_mmcv_operator(x: Tensor) -> bool:
    """Return True if mmcv's CUDA operator can be used for a map.

    mmcv must be built with CUDA, the map must be on CUDA, not empty and not bfloat16, and neither a compiler nor an exporter may be
    recording.
    """
    return not captured() and x.is_cuda and x.numel() > 0 and x.dtype != torch.bfloat16 and _mmcv_knows_cuda()


@cache
def _mmcv_knows_cuda() -> bool:
    try:
        from mmcv.ops import get_compiling_cuda_version
    except ImportError:  # mmcv-lite
        return False
    return get_compiling_cuda_version() != 'not available'
