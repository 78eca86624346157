"""DLU as a module: `Dynamic Lightweight Upsampling <https://arxiv.org/abs/2410.22139>`_ (Fu et al., ICPR 2024)."""

from typing import Any, Optional

import torch
from torch import Tensor, nn

from mmdysample.functional import reassemble, sample_points

from .base import Upsampler, check_odd, check_positive
from .initialisation import constant, normal, xavier_uniform
from .registration import register_upsampler


@register_upsampler()
class DLU(Upsampler):
    """Upsample ``(B, C, H, W)`` to ``(B, C, s*H, s*W)`` as CARAFE does, with kernels that are predicted at the size of the map and sampled.

    The encoder therefore predicts one kernel for each input pixel instead of one for each output pixel. Each output pixel takes its kernel
    from a predicted point between them.

    The names of the arguments and of the weights are those of the authors' class.

    Args:
        in_channels: Channels ``C`` of the map.
        scale_factor: Integer ratio ``s``.
        up_kernel: Odd size ``k`` of the neighbourhood that is reassembled.
        encoder_kernel: Odd kernel size of the convolutions that predict kernels and points.
        compressed_channels: Channels to which a 1x1 convolution reduces the map for them.
        init_cfg: mmengine's initialisation, which overrides the authors': Xavier for the 1x1 convolution, a normal distribution with a
            standard deviation of 0.001 for the kernels, and zeros for the points, so that each output pixel starts with the kernel of its
            input pixel.
        device: The device of the parameters.
        dtype: The dtype of the parameters.

    Raises:
        ValueError: An argument is not a positive integer, or a kernel size is even.
    """

    def __init__(
        self,
        in_channels: int,
        scale_factor: int = 2,
        up_kernel: int = 5,
        encoder_kernel: int = 3,
        compressed_channels: int = 64,
        init_cfg: Any = None,
        device: Any = None,
        dtype: Optional[torch.dtype] = None,
    ) -> None:
        super().__init__(in_channels, scale_factor, init_cfg)
        up_kernel, encoder_kernel = check_odd(up_kernel=up_kernel, encoder_kernel=encoder_kernel)
        (compressed_channels,) = check_positive(compressed_channels=compressed_channels)
        factory: dict[str, Any] = {'device': device, 'dtype': dtype}
        encoder: dict[str, Any] = {'kernel_size': encoder_kernel, 'padding': encoder_kernel // 2, **factory}
        self.channel_compressor = nn.Conv2d(self.in_channels, compressed_channels, 1, **factory)
        self.kernel_space_generator = nn.Conv2d(compressed_channels, up_kernel**2, **encoder)
        self.conv_offset = nn.Conv2d(compressed_channels, 2 * self.scale_factor**2, **encoder)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as the published implementation does."""
        xavier_uniform(self.channel_compressor)
        normal(self.kernel_space_generator, std=0.001)
        constant(self.conv_offset, 0.0)

    def upsample(self, x: Tensor) -> Tensor:
        """Upsample a map; see :meth:`Upsampler.forward` for the shapes."""
        return reassemble(x, self.predict_kernels(x), self.scale_factor)

    def predict_kernels(self, x: Tensor) -> Tensor:
        """Return the reassembly kernels that the module predicts from a map.

        Args:
            x: ``(B, C, H, W)``.

        Returns:
            ``(B, k*k, s*H, s*W)``, float32 or wider, the channels ordered as (row, column); each kernel sums to one.
        """
        compressed = self.channel_compressor(x)
        logits = self.kernel_space_generator(compressed)
        kernels = logits.softmax(1, dtype=torch.promote_types(logits.dtype, torch.float32))
        # The offsets are ordered as (x | y, row, column), which is the order of the sampling points, so that no pixel shuffle is needed.
        return sample_points(kernels, self.conv_offset(compressed), scale_factor=self.scale_factor)
